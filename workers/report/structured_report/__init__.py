"""The Structured Report: TID 1500 written, read back, and its content tree walked."""
