"""AutoNAT 1 and 2: whether others reach us, found out by asking them to try."""

V1 = "/libp2p/autonat/1.0.0"
DIAL_REQUEST = "/libp2p/autonat/2/dial-request"
DIAL_BACK = "/libp2p/autonat/2/dial-back"
