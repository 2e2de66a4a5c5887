"""The tables as the code expects them; node/migrations creates them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class Instant(TypeDecorator[datetime]):
    """A time in UTC. SQLite stores no time zone, so it is added on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only if the key's type is INTEGER."""

metadata = MetaData()

radiograph = Table(
    "radiograph",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("calling_ae_title", String(64), nullable=False),
    Column("calling_host", String(255), nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),
    Column("detail", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until", Instant),
    Column("worker", String(255)),
    Column("changed_at", Instant, nullable=False),
    Column("answer_id", BigInteger),  # the current answer
    Index("radiograph_state", "state", "received_at"),
    Index("radiograph_received", "received_at"),
    Index("radiograph_reason", "reason", "received_at"),
    Index("radiograph_sha256", "sha256"),
)

flag = Table(
    "flag",
    metadata,
    Column("sop_instance_uid", ForeignKey("radiograph.sop_instance_uid"), primary_key=True),
    Column("flag", String(64), primary_key=True),
    Index("flag_flag", "flag"),
)

conflict = Table(
    "conflict",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", ForeignKey("radiograph.sop_instance_uid"), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("calling_ae_title", String(64), nullable=False),
    Column("calling_host", String(255), nullable=False),
    Column("received_at", Instant, nullable=False),
    UniqueConstraint("sop_instance_uid", "sha256", name="conflict_once"),
    Index("conflict_sha256", "sha256"),
)

answer = Table(
    "answer",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("source_uid", ForeignKey("radiograph.sop_instance_uid"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),
    Column("model_name", String(255)),
    Column("model_version", String(255)),
    Column("model_sha256", String(64)),
    Column("reading", Text, nullable=False),
    Index("answer_source", "source_uid", "id"),
    Index("answer_model", "model_name", "model_version", "model_sha256", "at"),
)

shadow = Table(
    "shadow",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("source_uid", ForeignKey("radiograph.sop_instance_uid"), nullable=False),
    Column("answer_id", BigInteger, ForeignKey("answer.id"), nullable=False),  # the answer that it was made beside
    Column("at", Instant, nullable=False),
    Column("card", String(255), nullable=False),
    Column("model_name", String(255)),
    Column("model_version", String(255)),
    Column("model_sha256", String(64)),
    Column("reading", Text),
    Column("fault", Text, nullable=False),
    Index("shadow_source", "source_uid", "id"),
    Index("shadow_answer", "answer_id"),
    Index("shadow_model", "model_name", "model_version", "model_sha256", "at"),
)

model_change = Table(
    "model_change",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("what", String(16), nullable=False),
    Column("card", String(255), nullable=False),
    Column("card_sha256", String(64), nullable=False),  # of the card's file, which holds more than the weights' hash
    Column("name", String(255), nullable=False),
    Column("version", String(255), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("by", String(255), nullable=False),
)

result_object = Table(
    "result_object",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("source_uid", ForeignKey("radiograph.sop_instance_uid"), nullable=False),
    Column("answer_id", BigInteger, ForeignKey("answer.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("file", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Index("result_object_source", "source_uid"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("source_uid", ForeignKey("radiograph.sop_instance_uid"), nullable=False),
    Column("object_uid", ForeignKey("result_object.sop_instance_uid"), nullable=False),
    Column("destination", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("status", Integer),  # of the destination's C-STORE response
    Column("last_error", Text, nullable=False),
    UniqueConstraint("object_uid", "destination", name="delivery_once"),
    Index("delivery_due", "destination", "state", "due_at"),
    Index("delivery_source", "source_uid"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("at", Instant, nullable=False),
    Column("what", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("by", String(255), nullable=False),
    Index("journal_radiograph", "sop_instance_uid", "id"),
)

beat = Table(
    "beat",
    metadata,
    Column("part", String(64), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("seen_at", Instant, nullable=False),
    Column("detail", Text, nullable=False),
)
