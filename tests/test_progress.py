"""Long work says what it does: a bar on a terminal and in a notebook, lines in a log, nothing in between."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from types import SimpleNamespace

import pytest

from flow import progress


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_a_bar_that_goes_away() -> None:
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), progress.progress() as announce:
        announce("emit")
        announce("search", 1, 4)
        announce("search", 2, 4)
        announce("csim")
    said = terminal.getvalue()
    assert "emit ..." in said and "search" in said and " 1/4 " in said and " 2/4 " in said
    assert said.rpartition("csim ...")[2].strip("0123456789: \r") == "", "the line is empty at the end"


def test_in_a_log_it_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    with contextlib.redirect_stderr(log), progress.progress(log=True) as announce:
        announce("emit")
    assert log.getvalue() == "", "short work is silent"
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.01)
    with contextlib.redirect_stderr(log), progress.progress(log=True) as announce:
        for work, words in (((), ""), ((2, 4), ", 2 of 4"), ((3, 4), ", 3 of 4, 0 s to go")):
            announce("emit", *work)
            while f" s: emit{words}\n" not in log.getvalue():
                time.sleep(0.01)
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()
    said = log.getvalue()
    with contextlib.redirect_stderr(log), progress.progress() as announce:  # of a program that asked for no log
        announce("emit")
    with contextlib.redirect_stderr(log), progress.progress(log=True, quiet=True) as announce:
        announce("emit")
        time.sleep(0.05)
    with contextlib.redirect_stderr(None), progress.progress(log=True) as announce:  # as `2>&-` leaves it
        announce("emit")
    assert log.getvalue() == said


def test_a_notebook_is_told_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not progress.in_notebook()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress.in_notebook()
