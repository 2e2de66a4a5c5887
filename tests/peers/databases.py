"""Databases for the tests of the ledger: SQLite files, and a PostgreSQL cluster on a free port."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; tests in a container often are."""


def postgresql_programs() -> Path | None:
    """The folder of initdb and postgres: on the PATH, or where Debian installs them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a cluster; yields its URL, to which a database name is to be added."""
    programs = postgresql_programs()
    assert programs is not None, "postgresql is not installed"
    user = {"user": UNPRIVILEGED} if os.geteuid() == 0 else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="genu-postgresql-"))  # pytest's own folders are closed to others
    if user:
        shutil.chown(folder, UNPRIVILEGED)
    data = folder / "cluster"
    _run(programs / "initdb", "-D", data, "-U", "genu", "-A", "trust", "-E", "UTF8", "--no-sync", **user)
    settings = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    _run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start", **user)
    try:
        yield f"postgresql+psycopg://genu@127.0.0.1:{port}/"
    finally:
        _run(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop", **user)
        shutil.rmtree(folder)


def empty_database(server: str) -> str:
    """Drop all tables of the database. Returns its URL."""
    url = server + "postgres"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def _run(program: Path, *arguments: object, **user: str) -> None:
    subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, cwd="/", **user)
