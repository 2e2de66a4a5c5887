"""The database of the ledger: SQLite in the storage folder, or PostgreSQL for processes on several hosts."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url

from node.errors import SettingsError, Transient

BUSY_SECONDS = 15
"""How long a transaction waits for another's lock before it gives up; a sender waits 30 s or more."""

_UPGRADE_LOCK = 0x47454E55
"""Key of the PostgreSQL advisory lock that an upgrade of the tables holds."""

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


class Database:
    """
    Atomic transactions, durable when they end.

    SQLite: write-ahead log, synchronous=FULL, and writers begin with BEGIN IMMEDIATE, since a reader that becomes a
    writer later is refused with SQLITE_BUSY at once. Writers of one process first wait for a lock of this class:
    SQLite waits by sleeping, which is not fair.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self._sqlite = parsed.get_backend_name() == "sqlite"
            if not self._sqlite and parsed.get_backend_name() != "postgresql":
                raise SettingsError(
                    f"the ledger cannot use {parsed.get_backend_name()}", hint="use sqlite or postgresql"
                )
            if self._sqlite:
                if not parsed.database or parsed.database == ":memory:":
                    raise SettingsError("the ledger needs a file", hint="sqlite:////folder/ledger.sqlite")
                Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
            self._engine = _sqlite(url) if self._sqlite else sa.create_engine(url, pool_pre_ping=True)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise SettingsError(f"the database URL cannot be used: {error}") from error
        self._write_lock: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if self._sqlite else contextlib.nullcontext()
        )

    @staticmethod
    def exists(url: str) -> bool:
        """Whether there is a database at `url`; a SQLite file would be created by connecting."""
        parsed = make_url(url)
        return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()

    def has_table(self, name: str) -> bool:
        with self.read() as connection:
            return sa.inspect(connection).has_table(name)

    @property
    def has_one_writer(self) -> bool:
        """Whether only one transaction can write at a time."""
        return self._sqlite

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may change rows. Raises Transient if the database does not respond or is full."""
        with _driver_errors(), self._write_lock, self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, from one snapshot of the ledger. Raises Transient as `write` does."""
        options = {"genu_reads": True} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        with _driver_errors(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def upgrade(self) -> None:
        """
        Upgrade the tables to the newest revision.

        This is one transaction under one lock, so several processes may start at once: the first creates the tables,
        the others find them. Raises SettingsError for tables of a newer Genu.
        """
        with self.write() as connection:
            if not self._sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            try:
                command.upgrade(revisions(connection), "head")
            except CommandError as error:
                raise SettingsError(
                    f"the ledger's tables cannot be upgraded: {error}",
                    hint="if a newer Genu has written this ledger, install that version",
                ) from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def revisions(connection: Connection) -> Config:
    """Alembic's configuration for the revisions of the ledger, to be applied on the connection."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextlib.contextmanager
def _driver_errors() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        # Only the driver's message: SQLAlchemy's own repeats the statement with its values.
        cause = getattr(error, "orig", None) or error
        raise Transient(
            f"the ledger cannot be read or written: {cause}", hint="check the disk and the database; run `genu check`"
        ) from error


def _sqlite(url: str) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        _set_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("genu_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _set_wal(connection: sqlite3.Connection) -> None:
    """Set WAL mode. SQLite does not wait for locks here, so processes that open a new file together retry."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
