"""A router is asked to let others in: NAT-PMP (RFC 6886) and its successor PCP (RFC 6887)."""
