"""The block exchange: sessions that fetch from many peers, an engine that serves. Spoken as IPFS does."""
