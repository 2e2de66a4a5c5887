"""`genu run`, and the processes that it starts as commands of their own: receive, deliver, sweep, admin."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from node.broker import EmbeddedBroker, Publisher, application
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
    Start every process of the node and keep them running until Ctrl-C or SIGTERM.

    Without [broker] url an embedded Valkey is started on loopback; without [database] url the ledger is
    a SQLite file in the storage folder. Nothing else is needed.
    """
    settings: Settings = ctx.obj
    configure("run")
    stop = stop_on_signals()
    with supervised_node(settings, settings_file(ctx)) as supervisor:
        click.echo(welcome(settings))
        supervisor.run(stop)


@contextmanager
def supervised_node(
    settings: Settings,
    file: Path | None,
    *,
    destinations: Sequence[Destination] | None = None,
    log_file: Path | None = None,
) -> Iterator[Supervisor]:
    """
    A supervisor of all processes, with vault and ledger ready, the first password printed and the broker running.

    The processes read the same settings file; `destinations`, if given, replace its own.
    """
    for port, host, setting in (
        (settings.receive.port, settings.receive.host, "[receive] port"),
        (settings.admin.port, settings.admin.host, "[admin] port"),
    ):
        require_free_port(host, port, setting)
    open_storage(settings)[1].close()
    print_first_password(settings)
    embedded = None if settings.broker.url else EmbeddedBroker(settings.storage.folder)
    try:
        environment = {"GENU__BROKER__URL": embedded.start() if embedded else settings.broker.url}
        if file:
            environment["GENU_SETTINGS"] = str(file.absolute())
        if destinations is not None:
            environment["GENU__DESTINATION"] = json.dumps(
                [destination.model_dump(mode="json") for destination in destinations]
            )
        commands: list[tuple[str, ...]] = [("receive",), ("deliver",), ("sweep",), ("admin",)]
        commands += [("work", "--name", f"worker-{number}") for number in range(1, settings.work.processes + 1)]
        yield Supervisor(commands, environment, log_file=log_file)
    finally:
        if embedded:
            embedded.stop()


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raise GenuError if the port is in use: better now than in a process that ends again and again."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise GenuError(
                f"{setting} {port} on {host} cannot be used: {error.strerror}",
                hint=f"stop what listens there (another Genu?), or set {setting}",
            ) from error


def settings_file(ctx: click.Context) -> Path | None:
    """The file that the settings were read from, if any."""
    given = ctx.find_root().params.get("path")
    return given or (Path("genu.toml") if Path("genu.toml").is_file() else None)


def open_storage(settings: Settings) -> tuple[Vault, Ledger]:
    """The vault and the ledger, the ledger's schema migrated. Raises GenuError if the folder cannot be used."""
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


def print_first_password(settings: Settings) -> None:
    """At the first start, create the password of the admin page and print it: once, and only here."""
    from node.admin.authentication import create_first_password

    password = None if settings.admin.password else create_first_password(settings.storage.folder)
    if password:
        click.echo(f"The admin page's password is: {password}")
        click.echo("It is shown only now. Write it down, or set your own as [admin] password.")


def welcome(settings: Settings) -> str:
    """Addresses, destinations and how to stop, for the person who started the node."""
    receive, admin = settings.receive, settings.admin
    lines = [
        f"Genu receives as {receive.ae_title} on {receive.host}:{receive.port}.",
        f"The admin page is http://{admin.host}:{admin.port}/ .",
        "Results go to "
        + (
            ", ".join(f"{peer.name} ({peer.ae_title or peer.protocol})" for peer in settings.destination)
            or "no destination yet"
        ),
        "Stop with Ctrl-C.",
    ]
    return "\n".join(lines)


@click.command()
@click.pass_obj
def receive(settings: Settings) -> None:
    """Receive radiographs by C-STORE, store them and queue them for grading."""
    from node.receive import StorageScp

    configure("receive")
    vault, ledger = open_storage(settings)
    stop = stop_on_signals()
    scp = StorageScp(settings, vault, ledger, Publisher(application(settings.broker.url)).publish)
    scp.start()
    stop.wait()
    scp.stop()
    ledger.close()


@click.command()
@click.pass_obj
def deliver(settings: Settings) -> None:
    """Send results to every destination, and retry until each has them."""
    from node.deliver import Deliverer

    configure("deliver")
    vault, ledger = open_storage(settings)
    Deliverer(settings, vault, ledger).run(stop_on_signals())
    ledger.close()


@click.command()
@click.pass_obj
def sweep(settings: Settings) -> None:
    """Queue unfinished radiographs again, and delete what interrupted processes left behind."""
    from node.sweep import Sweep

    configure("sweep")
    vault, ledger = open_storage(settings)
    Sweep(settings, vault, ledger, Publisher(application(settings.broker.url))).run(stop_on_signals())
    ledger.close()


@click.command()
@click.pass_obj
def admin(settings: Settings) -> None:
    """Serve the admin page, /healthz, /readyz and /metrics."""
    from node.admin.app import serve

    configure("admin")
    publisher = Publisher(application(settings.broker.url))
    vault, ledger = open_storage(settings)
    print_first_password(settings)
    stop: threading.Event = stop_on_signals()
    serve(settings, vault, ledger, publisher.ping, stop)
    ledger.close()


COMMANDS = (run, receive, deliver, sweep, admin)
