"""`genu models`: which models there are, how they differ, and which of them answers."""
