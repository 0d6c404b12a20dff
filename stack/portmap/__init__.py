"""A router is asked to let others in: by PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP."""
