"""`genu demo`: the node beside a small demo PACS, with rendered sample knees sent to it."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from node.cli.peers import sample_files, this_node
from node.cli.processes import settings_file, supervised_node, welcome
from node.errors import GenuError
from node.ledger import Entry, Ledger, State
from node.logs import configure
from node.reasons import REASONS
from node.ris import check_connection
from node.scu import send as send_files
from node.settings import Destination, Settings
from node.supervisor import stop_on_signals

if TYPE_CHECKING:
    from node.demo import DemoPacs

FINAL_STATES = (State.DELIVERED, State.CONFIRMED, State.NOT_ANALYSED, State.FAILED)


@click.command()
@click.option("--once", is_flag=True, help="End when all results have arrived, instead of running on.")
@click.pass_context
def demo(ctx: click.Context, once: bool) -> None:
    """
    Start the node and a small demo PACS, send rendered sample knees to the node, and show where the results are.

    With --settings the node uses the ports and the folder of the settings; the demo PACS is added as a destination.
    """
    from node.demo import DemoPacs

    configure("run", level=logging.WARNING)
    settings: Settings = ctx.obj
    stop = stop_on_signals()
    with DemoPacs(settings.storage.folder / "demo-pacs") as pacs:
        settings = with_destination(settings, pacs.port, pacs.ae_title)
        log_file = settings.storage.folder / "demo.log"
        node = supervised_node(settings, settings_file(ctx), destinations=settings.destination, log_file=log_file)
        with node as supervisor:
            thread = threading.Thread(target=supervisor.run, args=(stop,))
            thread.start()
            try:
                send_samples(settings, pacs, stop)
                click.echo(f"The log is {log_file}")
                if not once:
                    click.echo(welcome(settings))
                    stop.wait()
            finally:
                stop.set()
                thread.join()


def with_destination(settings: Settings, port: int, ae_title: str) -> Settings:
    """The same settings, with the demo PACS among the destinations."""
    added = Destination(name="demo", host="127.0.0.1", port=port, ae_title=ae_title)
    return settings.model_copy(update={"destination": (*settings.destination, added)})


def send_samples(settings: Settings, pacs: "DemoPacs", stop: threading.Event) -> None:
    """Send the samples, wait until all are finished, and print the results."""
    wait_until_up(settings, stop)
    uids = []
    with sample_files() as files:
        for row in send_files(files, this_node(settings), settings.deliver):
            click.echo(f"sent {row.file.name}: {'stored' if row.stored else row.error}")
            uids.append(row.sop_instance_uid)
    for line in summaries(settings, uids, stop):
        click.echo(line)
    click.echo(f"The demo PACS has {pacs.results} results, as DICOM files, in {pacs.folder}")


def wait_until_up(settings: Settings, stop: threading.Event, seconds: float = 60) -> None:
    """Return when this node answers a C-ECHO. Raises GenuError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not stop.is_set():
        try:
            check_connection(this_node(settings), settings.deliver)
        except GenuError as error:
            if time.monotonic() > deadline:
                raise GenuError(f"the node did not come up: {error}", hint="read the lines above") from error
            stop.wait(0.3)
        else:
            return


def summaries(settings: Settings, uids: list[str], stop: threading.Event, seconds: float = 120) -> Iterator[str]:
    """A line for each radiograph when it is finished. Raises GenuError if some are not after `seconds`."""
    ledger = Ledger(settings.database_url)
    waiting, deadline = list(uids), time.monotonic() + seconds
    while waiting and not stop.is_set() and time.monotonic() < deadline:
        for uid in list(waiting):
            entry = ledger.find(uid)
            if (
                entry is not None
                and entry.state in FINAL_STATES
                and all(d.state == "SENT" for d in ledger.deliveries(uid))
            ):
                waiting.remove(uid)
                yield summary(entry, number=uids.index(uid) + 1)
        stop.wait(0.2)
    ledger.close()
    if waiting and not stop.is_set():
        raise GenuError(f"{len(waiting)} samples did not finish", hint="look at the admin page and the log")


def summary(entry: Entry, *, number: int) -> str:
    """State, reason and grades of one radiograph in a line."""
    reading = entry.reading or {}
    if entry.reason:
        return f"sample-{number}: {entry.state.lower().replace('_', ' ')}: {REASONS[entry.reason].meaning}"
    knees = [f"{knee['laterality']} KL {knee['grade']}" for knee in reading.get("knees", [])]
    return f"sample-{number}: {entry.state.lower()}: {', '.join(knees)}"


COMMANDS = (demo,)
