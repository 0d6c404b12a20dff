"""gossipsub: messages to everybody who is in a topic, over meshes of a few peers each. `router` is the machine."""
