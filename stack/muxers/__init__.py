"""How one secured channel carries many streams; each row is resolved on use, first is preferred."""

MUXERS: dict[str, str] = {"/yamux/1.0.0": "stack.muxers.yamux.shell:YamuxMuxer"}
