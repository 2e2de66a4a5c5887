"""The revisions of the ledger's tables (Alembic)."""
