"""The Structured Report: TID 1500 written, parsed, checked, and its content tree traversed."""
