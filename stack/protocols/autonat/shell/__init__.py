"""What of AutoNAT touches streams: the server's side and the client's."""
