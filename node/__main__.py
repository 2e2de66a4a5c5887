"""The command line: reads the settings once, wires the parts, starts a process."""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from node import __version__
from node.commands import administration, parts, peers
from node.errors import GenuError
from node.settings import load


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
            return _not_installed(cmd_name, error.name or "a package")
        return command


def _workers() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group="genu.commands")}


def _not_installed(name: str, package: str) -> click.Command:
    help_text = f"(not installed here: pip install 'genu[worker-cpu]'; {package} is missing)"

    def refuse(**_: Any) -> None:
        raise GenuError(f"`genu {name}` needs {package}, which is not installed", hint="pip install 'genu[worker-cpu]'")

    return click.Command(name, callback=refuse, help=help_text, context_settings={"ignore_unknown_options": True})


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
    Prove it works:  genu check, then genu echo NAME, then genu send FILE...
    Grade a file:    genu grade FILE --json
    """
    ctx.obj = load(path)


for command in (*parts.COMMANDS, *peers.COMMANDS, *administration.COMMANDS):
    genu.add_command(command)


def main() -> None:
    """Run `genu`; an error of Genu's own is one clear line, not a traceback."""
    try:
        genu(prog_name="genu")
    except GenuError as error:
        click.echo(f"genu: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
