"""What peers tell each other of themselves: `/ipfs/id/1.0.0` and `/ipfs/id/push/1.0.0`."""
