"""`genu audit`: where a model's grades came from, whether its maps are faithful, and whether the red flag fires."""

from workers.training.audit.run import audit

__all__ = ["audit"]
