"""UnixFS: files and directories as DAGs of blocks. `options` and `chunkers` decide, `builder` and `directory` write,
`reader` reads what others wrote, `names` keeps their names from doing harm. Source: ipfs/specs unixfs.md.
"""
