"""What of port mapping touches sockets: the one who holds ports open, and what is said by UPnP."""
