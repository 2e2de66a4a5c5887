"""`genu run` and the single parts: receive, deliver, sweep, admin."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from node.broker import Bell, EmbeddedBroker, application
from node.errors import GenuError
from node.ledger import Ledger
from node.logs import configure
from node.settings import Destination, Settings
from node.storage import Vault
from node.supervisor import Supervisor, stop_on_signals


@click.command()
@click.pass_context
def run(ctx: click.Context) -> None:
    """
    Start every part of the node and keep them running until Ctrl-C or SIGTERM.

    Without [broker] url an embedded Valkey is started on loopback; without [database] url the ledger is
    a SQLite file in the storage folder. Nothing else is needed.
    """
    settings: Settings = ctx.obj
    configure("run")
    stop = stop_on_signals()
    with house(settings, settings_file(ctx)) as supervisor:
        click.echo(welcome(settings))
        supervisor.run(stop)


@contextmanager
def house(
    settings: Settings,
    file: Path | None,
    *,
    destinations: Sequence[Destination] | None = None,
    log_file: Path | None = None,
) -> Iterator[Supervisor]:
    """
    A supervisor over all parts, with the memory ready, the first password told and the broker up.

    The parts read the same settings file; `destinations` are handed to them instead of its own.
    """
    for port, host, what in (
        (settings.receive.port, settings.receive.host, "[receive] port"),
        (settings.admin.port, settings.admin.host, "[admin] port"),
    ):
        must_be_free(host, port, what)
    open_memory(settings)[1].close()
    tell_first_password(settings)
    embedded = None if settings.broker.url else EmbeddedBroker(settings.storage.folder)
    try:
        environment = {"GENU__BROKER__URL": embedded.start() if embedded else settings.broker.url}
        if file:
            environment["GENU_SETTINGS"] = str(file.absolute())
        if destinations is not None:
            environment["GENU__DESTINATION"] = json.dumps([each.model_dump(mode="json") for each in destinations])
        words: list[tuple[str, ...]] = [("receive",), ("deliver",), ("sweep",), ("admin",)]
        words += [("work", "--name", f"worker-{number}") for number in range(1, settings.work.processes + 1)]
        yield Supervisor(words, environment, log_file=log_file)
    finally:
        if embedded:
            embedded.stop()


def must_be_free(host: str, port: int, what: str) -> None:
    """Raise GenuError if something listens there already: better now than in a part that ends again and again."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise GenuError(
                f"{what} {port} on {host} cannot be used: {error.strerror}",
                hint=f"stop what listens there (another Genu?), or set {what}",
            ) from error


def settings_file(ctx: click.Context) -> Path | None:
    """The file that the settings were read from, if any."""
    named = ctx.find_root().params.get("path")
    return named or (Path("genu.toml") if Path("genu.toml").is_file() else None)


def open_memory(settings: Settings) -> tuple[Vault, Ledger]:
    """The vault and the ledger, the ledger's schema brought up to date."""
    try:
        vault = Vault(settings.storage.folder)
    except OSError as error:
        raise GenuError(
            f"the storage folder {settings.storage.folder} cannot be used: {error.strerror}",
            hint="set [storage] folder",
        ) from error
    ledger = Ledger(settings.database_url)
    ledger.upgrade()
    return vault, ledger


def tell_first_password(settings: Settings) -> None:
    """At the first start, choose the admin page's password and print it: once, and only here."""
    from node.admin.authentication import first_password

    chosen = None if settings.admin.password else first_password(settings.storage.folder)
    if chosen:
        click.echo(f"The admin page's password is: {chosen}")
        click.echo("It is shown only now. Write it down, or set your own as [admin] password.")


def welcome(settings: Settings) -> str:
    """Where the node listens, for the person who started it."""
    receive, admin = settings.receive, settings.admin
    lines = [
        f"Genu receives as {receive.ae_title} on {receive.host}:{receive.port}.",
        f"The admin page is http://{admin.host}:{admin.port}/ .",
        "Results go to "
        + (
            ", ".join(f"{each.name} ({each.ae_title or each.protocol})" for each in settings.destination)
            or "no destination yet"
        ),
        "Stop with Ctrl-C.",
    ]
    return "\n".join(lines)


@click.command()
@click.pass_obj
def receive(settings: Settings) -> None:
    """Take in radiographs by C-STORE, keep them, and ask for them to be graded."""
    from node.receive import Receiver

    configure("receive")
    vault, ledger = open_memory(settings)
    stop = stop_on_signals()
    receiver = Receiver(settings, vault, ledger, Bell(application(settings.broker.url)))
    receiver.start()
    stop.wait()
    receiver.stop()
    ledger.close()


@click.command()
@click.pass_obj
def deliver(settings: Settings) -> None:
    """Send results to every destination, again and again until each has them."""
    from node.deliver import Deliverer

    configure("deliver")
    vault, ledger = open_memory(settings)
    Deliverer(settings, vault, ledger).run(stop_on_signals())
    ledger.close()


@click.command()
@click.pass_obj
def sweep(settings: Settings) -> None:
    """Ask again for what is unfinished, and clear away what broke off."""
    from node.sweep import Sweep

    configure("sweep")
    vault, ledger = open_memory(settings)
    Sweep(settings, vault, ledger, Bell(application(settings.broker.url))).run(stop_on_signals())
    ledger.close()


@click.command()
@click.pass_obj
def admin(settings: Settings) -> None:
    """Serve the admin page, /healthz, /readyz and /metrics."""
    from node.admin.app import serve

    configure("admin")
    bell = Bell(application(settings.broker.url))
    vault, ledger = open_memory(settings)
    tell_first_password(settings)
    stop: threading.Event = stop_on_signals()
    serve(settings, vault, ledger, bell.ping, stop)
    ledger.close()


COMMANDS = (run, receive, deliver, sweep, admin)
