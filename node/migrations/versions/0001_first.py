"""The first tables; the journal cannot be rewritten."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

STATES = "'RECEIVED', 'GRADING', 'REPORTED', 'DELIVERED', 'CONFIRMED', 'NOT_ANALYSED', 'FAILED'"
MOMENT = sa.DateTime(timezone=True)
ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _radiographs()
    _answers()
    _deliveries()
    _journal()


def _instance() -> list[sa.Column[object]]:
    return [
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("calling_ae_title", sa.String(64), nullable=False),
        sa.Column("calling_host", sa.String(255), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
    ]


def _radiographs() -> None:
    op.create_table(
        "radiograph",
        sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
        *_instance(),
        sa.Column("state", sa.String(16), sa.CheckConstraint(f"state IN ({STATES})"), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_until", MOMENT),
        sa.Column("worker", sa.String(255)),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("answer_id", sa.BigInteger),
    )
    op.create_index("radiograph_state", "radiograph", ["state", "received_at"])
    op.create_index("radiograph_received", "radiograph", ["received_at"])
    op.create_index("radiograph_reason", "radiograph", ["reason", "received_at"])
    op.create_index("radiograph_sha256", "radiograph", ["sha256"])
    op.create_table(
        "flag",
        sa.Column("sop_instance_uid", sa.String(64), sa.ForeignKey("radiograph.sop_instance_uid"), primary_key=True),
        sa.Column("flag", sa.String(64), primary_key=True),
    )
    op.create_index("flag_flag", "flag", ["flag"])
    op.create_table(
        "conflict",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("sop_instance_uid", sa.String(64), sa.ForeignKey("radiograph.sop_instance_uid"), nullable=False),
        *_instance(),
        sa.UniqueConstraint("sop_instance_uid", "sha256", name="conflict_once"),
    )
    op.create_index("conflict_sha256", "conflict", ["sha256"])


def _answers() -> None:
    op.create_table(
        "answer",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("source_uid", sa.String(64), sa.ForeignKey("radiograph.sop_instance_uid"), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("model_name", sa.String(255)),
        sa.Column("model_version", sa.String(255)),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("reading", sa.Text, nullable=False),
    )
    op.create_index("answer_source", "answer", ["source_uid", "id"])
    op.create_index("answer_model", "answer", ["model_name", "model_version", "model_sha256", "at"])
    op.create_table(
        "result_object",
        sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
        sa.Column("source_uid", sa.String(64), sa.ForeignKey("radiograph.sop_instance_uid"), nullable=False),
        sa.Column("answer_id", sa.BigInteger, sa.ForeignKey("answer.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.create_index("result_object_source", "result_object", ["source_uid"])


def _deliveries() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("source_uid", sa.String(64), sa.ForeignKey("radiograph.sop_instance_uid"), nullable=False),
        sa.Column("object_uid", sa.String(64), sa.ForeignKey("result_object.sop_instance_uid"), nullable=False),
        sa.Column("destination", sa.String(255), nullable=False),
        sa.Column(
            "state", sa.String(16), sa.CheckConstraint("state IN ('WAITING', 'SENT', 'GIVEN_UP')"), nullable=False
        ),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.UniqueConstraint("object_uid", "destination", name="delivery_once"),
    )
    op.create_index("delivery_due", "delivery", ["destination", "state", "due_at"])
    op.create_index("delivery_source", "delivery", ["source_uid"])


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
    )
    op.create_index("journal_radiograph", "journal", ["sop_instance_uid", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER journal_no_{change.lower()} BEFORE {change} ON journal "
                "BEGIN SELECT RAISE(ABORT, 'the journal is only added to'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION journal_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the journal is only added to'; END $$"
        )
        op.execute(
            "CREATE TRIGGER journal_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON journal "
            "FOR EACH STATEMENT EXECUTE FUNCTION journal_is_only_added_to()"
        )
    op.create_table(
        "beat",
        sa.Column("part", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
