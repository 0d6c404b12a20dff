"""The announcement layer: who has what, without server and without DHT (docs/announce.md)."""
