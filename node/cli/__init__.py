"""The commands of `genu` that need no model: they wire the parts and start them."""
