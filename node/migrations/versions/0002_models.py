"""Changes of the active model, which cannot be rewritten, and readings of shadow models."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)
ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "model_change",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column(
            "what",
            sa.String(16),
            sa.CheckConstraint("what IN ('shipped', 'promoted', 'rolled back')"),
            nullable=False,
        ),
        sa.Column("card", sa.String(255), nullable=False),
        sa.Column("card_sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
    )
    _only_added_to()
    op.create_table(
        "shadow",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("source_uid", sa.String(64), sa.ForeignKey("radiograph.sop_instance_uid"), nullable=False),
        sa.Column("answer_id", sa.BigInteger, sa.ForeignKey("answer.id"), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("card", sa.String(255), nullable=False),
        sa.Column("model_name", sa.String(255)),
        sa.Column("model_version", sa.String(255)),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("reading", sa.Text),
        sa.Column("fault", sa.Text, nullable=False),
    )
    op.create_index("shadow_source", "shadow", ["source_uid", "id"])
    op.create_index("shadow_answer", "shadow", ["answer_id"])
    op.create_index("shadow_model", "shadow", ["model_name", "model_version", "model_sha256", "at"])


def _only_added_to() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER model_change_no_{change.lower()} BEFORE {change} ON model_change "
                "BEGIN SELECT RAISE(ABORT, 'the history of models is only added to'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION model_change_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the history of models is only added to'; END $$"
    )
    op.execute(
        "CREATE TRIGGER model_change_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON model_change "
        "FOR EACH STATEMENT EXECUTE FUNCTION model_change_is_only_added_to()"
    )
