"""Run by Alembic: applies the revisions on the ledger's connection, inside the ledger's transaction."""

from alembic import context

from node.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the ledger's own transaction includes everything
)
context.run_migrations()
