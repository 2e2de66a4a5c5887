"""`genu check`, `genu status` and `genu retry`: examine the node, show its state, try radiographs again."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from node.broker import Publisher, application
from node.cli.processes import open_storage
from node.errors import GenuError
from node.ledger import Heartbeat, Ledger, State
from node.reasons import REASONS
from node.ris import check_connection
from node.settings import Destination, Settings, settings_help

EVERY_SETTING = "\n\n".join(
    f"\b\n{table}" for table in f"Every setting, its default, its meaning:\n\n{settings_help()}".split("\n\n")
)


@click.command(epilog=EVERY_SETTING)
@click.pass_obj
def check(settings: Settings) -> None:
    """
    Examine settings, disk, ledger, broker, model and every destination; end with 1 if anything is wrong.

    Run it after installing and after every change of the settings.
    """
    failures = 0
    for name, run_check in _checks(settings):
        try:
            click.echo(f"ok     {name}: {run_check()}")
        except Exception as error:  # noqa: BLE001 - every failure is reported, and the next check runs
            failures += 1
            click.echo(f"WRONG  {name}: {error}")
    if failures:
        raise SystemExit(1)


def _checks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name and function of each check. A function returns what it found, or raises what is wrong."""
    yield "settings", lambda: f"receive as {settings.receive.ae_title} on port {settings.receive.port}"
    yield "storage", lambda: _storage(settings)
    yield "ledger", lambda: _ledger(settings)
    yield "broker", lambda: _broker(settings)
    for entry in entry_points(group="genu.checks"):
        yield entry.name, lambda entry=entry: _worker_check(entry, settings)  # type: ignore[misc]
    if not settings.destination:
        yield "destinations", _no_destination
    for peer in settings.destination:
        yield f"destination {peer.name}", lambda peer=peer: _destination(settings, peer)  # type: ignore[misc]


def _worker_check(entry: EntryPoint, settings: Settings) -> str:
    try:
        return str(entry.load()(settings))
    except ModuleNotFoundError as error:  # a node whose workers run on another host
        return f"no worker is installed here: {error.name} is missing"


def _storage(settings: Settings) -> str:
    vault, ledger = open_storage(settings)
    ledger.close()
    free = vault.free_mb()
    if free < settings.storage.min_free_mb:
        raise GenuError(
            f"{free:.0f} MB free, less than min_free_mb", hint="free some space; until then nothing is accepted"
        )
    return f"{settings.storage.folder} is writable, {free / 1024:.1f} GB free"


def _ledger(settings: Settings) -> str:
    ledger = Ledger(settings.database_url)
    counts = ledger.counts_by_state()
    ledger.close()
    return f"{sum(counts.values())} radiographs"


def _broker(settings: Settings) -> str:
    if not settings.broker.url:
        return "embedded, started by `genu run`"
    if not Publisher(application(settings.broker.url)).ping():
        raise GenuError("it does not answer", hint="check [broker] url, and that Redis or Valkey runs there")
    return "answers"


def _destination(settings: Settings, destination: Destination) -> str:
    check_connection(destination, settings.deliver)
    return "answers"


def _no_destination() -> str:
    raise GenuError("none in the settings: results would be sent nowhere", hint="add a [[destination]]")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show the number of radiographs in each state, what waits for each destination, and which processes run."""
    _, ledger = open_storage(settings)
    report = _status(ledger)
    ledger.close()
    if as_json:
        click.echo(json.dumps(report))
        return
    for state, counted in report["radiographs"].items():
        click.echo(f"{state.replace('_', ' '):14} {counted['count']:6}" + _since(counted["oldest"]))
    for queue in report["waiting"]:
        error = f"; last error: {queue['last_error']}" if queue["last_error"] else ""
        click.echo(f"{queue['count']} objects wait for {queue['destination']}{_since(queue['oldest'])}{error}")
    for process in report["parts"]:
        answers = f"; {process['model']} {process['version']} answers" if process.get("model") else ""
        shadow = ""
        if process.get("shadow_model"):
            shadow = f", {process['shadow_model']} {process['shadow_version']} in shadow"
        click.echo(f"{process['part']} {process['name']}: seen {process['seconds_ago']:.0f} s ago{answers}{shadow}")
        for error in filter(None, (process.get("trouble"), process.get("shadow_trouble"))):
            click.echo(f"  WRONG: {error}")


def _status(ledger: Ledger) -> dict[str, Any]:
    counts, oldest, now = ledger.counts_by_state(), ledger.oldest_by_state(), datetime.now(UTC)
    return {
        "radiographs": {
            state.value: {"count": counts.get(state, 0), "oldest": _iso(oldest.get(state))} for state in State
        },
        "waiting": [
            {"destination": name, "count": count, "oldest": _iso(since), "last_error": error}
            for name, count, since, error in ledger.pending_deliveries()
        ],
        "parts": [
            {
                "part": beat.process,
                "name": beat.name,
                "seconds_ago": (now - beat.seen_at).total_seconds(),
                **_models(beat),
            }
            for beat in ledger.heartbeats()
        ],
    }


def _models(beat: Heartbeat) -> dict[str, Any]:
    """The models in a worker's heartbeat; empty for other processes."""
    names = ("card", "model", "version", "sha256", "engine", "trouble")
    keys = (*names, *(f"shadow_{name}" for name in names))
    return {key: beat.detail[key] for key in keys if key in beat.detail} if beat.process == "work" else {}


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _since(at: object) -> str:
    return f"   oldest since {at}" if at else ""


@click.command()
@click.argument("uids", nargs=-1)
@click.option("--failed", is_flag=True, help="Every radiograph that is FAILED.")
@click.option("--reason", default="", help="Every radiograph with this reason code.")
@click.option(
    "--graded", is_flag=True, help="Grade the UIDs again although they have a grade: a new model was promoted."
)
@click.pass_obj
def retry(settings: Settings, uids: tuple[str, ...], failed: bool, reason: str, graded: bool) -> None:
    """
    Queue radiographs again that FAILED or were NOT_ANALYSED: by SOP Instance UID, or many at once.

    With --graded also those that were graded. The results of another model are sent as new objects, and the new report
    names the one that it replaces; the results of the same model are the same and are not sent a second time.

    \b
    Example: genu retry --failed
             genu retry --reason DECODER_LIMIT
             genu retry --graded 1.2.840.113619.2.5.1762583153
    """
    if graded and not uids:
        raise click.UsageError("--graded needs the UIDs of the radiographs")
    if not (uids or failed or reason):
        raise click.UsageError("name radiographs by UID, or use --failed or --reason")
    if reason and reason not in REASONS:
        raise click.UsageError(f"there is no reason {reason}; there are: {', '.join(REASONS)}")
    _, ledger = open_storage(settings)
    chosen = [*uids, *(_matching(ledger, failed=failed, reason=reason) if failed or reason else [])]
    queued = [uid for uid in chosen if ledger.retry(uid, "command line", graded=graded)]
    ledger.close()
    click.echo(f"{len(queued)} of {len(chosen)} will be tried again within {settings.broker.sweep_seconds:.0f} s")
    if len(queued) < len(uids):
        hint = (
            "only radiographs that this node has and that are not being processed"
            if graded
            else "only FAILED and NOT_ANALYSED ones can be queued again"
        )
        raise GenuError("some were not queued again", hint=hint)


def _matching(ledger: Ledger, *, failed: bool, reason: str) -> list[str]:
    entries = ledger.listing(state=State.FAILED if failed else None, reason=reason or None, limit=100_000)
    return [entry.sop_instance_uid for entry in entries]


COMMANDS = (check, status, retry)
