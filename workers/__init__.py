"""The workers: they turn one radiograph into a report."""
