"""mDNS: peers on the same local network find each other. Source: libp2p/specs, discovery/mdns.md; RFC 6762."""
