"""Direct connection upgrade through relay: two peers behind routers open a way to each other, from both sides at the same moment.
Source: libp2p/specs, relay/DCUtR.md."""
