"""`genu` called as its entry point does, in the process of the test."""

import sys

import pytest

from node.__main__ import main


class CommandResult:
    """Exit code and output of a call of `genu`."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class GenuCommand:
    """Calls `genu` as its entry point does, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> CommandResult:
        self._monkeypatch.setattr(sys, "argv", ["genu", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        output = self._capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        return CommandResult(code, output.out, output.err)
