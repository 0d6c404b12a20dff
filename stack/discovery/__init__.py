"""How peers are found: mDNS on the local network, a bootstrap list, and those of earlier runs."""
