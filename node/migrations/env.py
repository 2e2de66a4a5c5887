"""Alembic runs this: the revisions are applied on the connection, and in the transaction, that the ledger hands over."""

from alembic import context

from node.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the ledger's own transaction is around everything
)
context.run_migrations()
