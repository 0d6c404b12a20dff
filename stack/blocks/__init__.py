"""Where blocks lie: one small interface, several stores behind it."""

STORES = {
    "disk": "stack.blocks.store:DiskStore",
    "memory": "stack.blocks.memory:MemoryStore",
}
"""Every store, by the name a configuration uses, in order of preference. Each has
`open(home: Path, *, quota: int | None = None, trace: Trace | None = None)`, an async context that gives the store."""
