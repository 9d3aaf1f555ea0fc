"""What long work says while it runs: a bar on a terminal and in a notebook, lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

LOG_EVERY_S = 10.0
"""Seconds between two lines that say what is done, where stderr is no terminal."""
WORDS, BAR = "{desc} ... {elapsed}", "{desc} {bar:24} {n_fmt}/{total_fmt} {elapsed}, {remaining} to go"


class Announce(Protocol):
    """Takes what is done now, in words, and how much of how much is done, if that is known."""

    def __call__(self, words: str, done: int = 0, of: int = 0, /) -> None: ...


def silent(words: str, done: int = 0, of: int = 0) -> None:
    """Say nothing."""


@contextmanager
def progress(*, log: bool = False, quiet: bool = False) -> Iterator[Announce]:
    """Show what is announced, on stderr if that is a terminal, or in the cell of a notebook; else say it in a `log`."""
    if quiet:
        yield silent
    elif in_notebook() or (sys.stderr is not None and sys.stderr.isatty()):
        with _bar() as announce:
            yield announce
    elif log and sys.stderr is not None:
        with _log() as announce:
            yield announce
    else:
        yield silent


def in_notebook() -> bool:
    """Say whether this process runs the cells of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _bar() -> Iterator[Announce]:
    from tqdm.auto import tqdm

    bar: Any = tqdm(total=1, leave=False, bar_format=WORDS, file=sys.stderr)

    def announce(words: str, done: int = 0, of: int = 0) -> None:
        wanted = BAR if of else WORDS
        if (of or 1, wanted) != (bar.total, bar.bar_format) or done < bar.n:  # another work: its time begins now
            bar.reset(of or 1)
            bar.bar_format, bar.initial = wanted, done
        bar.n = done
        bar.set_description_str(words)

    try:
        yield announce
    finally:
        bar.close()


@contextmanager
def _log() -> Iterator[Announce]:
    stream, doing, ended, started = sys.stderr, ["begins"], threading.Event(), time.monotonic()
    begun = (0, 0, started)  # how much of how much was done when this work began, and when that was

    def announce(words: str, done: int = 0, of: int = 0) -> None:
        nonlocal begun
        if of != begun[1] or done < begun[0]:
            begun = (done, of, time.monotonic())
        doing[0] = f"{words}, {done} of {of}" if of else words
        if begun[0] < done < of:
            left = (time.monotonic() - begun[2]) * (of - done) / (done - begun[0])
            doing[0] += f", {left:.0f} s to go"

    def log() -> None:
        with suppress(OSError, ValueError):  # nobody reads it any more
            while not ended.wait(LOG_EVERY_S):
                print(f"flow: {time.monotonic() - started:.0f} s: {doing[0]}", file=stream, flush=True)

    logger = threading.Thread(target=log, daemon=True)
    logger.start()
    try:
        yield announce
    finally:
        ended.set()
        logger.join()
