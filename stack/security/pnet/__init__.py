"""Private networks by a pre-shared key. Source: libp2p/specs, pnet/Private-Networks-PSK-V1.md."""
