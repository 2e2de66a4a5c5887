"""The commands of `genu` that need no model: the processes of the node, its clients and its administration."""
