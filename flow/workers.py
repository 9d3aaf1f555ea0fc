"""Who does long work: Dask's workers, of a cluster on this machine or of a scheduler somewhere else."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Protocol

from flow.errors import SpecError, ToolFailedError, ToolMissingError, shown

INSTALL = "run: pip install 'po2flow[explore]'"
CONNECT_S = 30
MOST_WORKERS = 1024


def import_extra(name: str) -> Any:
    """Return a package of the extra `[explore]`.

    Raises:
        ToolMissingError: it cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except ImportError as error:
        raise ToolMissingError(f"package '{name}' cannot be imported ({error})", remedy=INSTALL) from error


class Work(Protocol):
    """Work that was handed out: a future of Dask, or of `concurrent.futures`."""

    def done(self) -> bool: ...
    def result(self) -> Any: ...
    def cancel(self) -> Any: ...


class Pool(Protocol):
    """Takes work."""

    def size(self) -> int:
        """Return how much is done at once."""
        ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Work:
        """Hand work out."""
        ...


def gone(error: BaseException) -> ToolFailedError:
    """Return what is said when the scheduler no longer answers, or gave up what it was asked for."""
    what = f"the scheduler of Dask is gone ({type(error).__name__}: {shown(str(error))})"
    return ToolFailedError(what, remedy="start it again; the same command goes on from where the search stood")


class DaskPool:
    """Workers of Dask; work of one that dies is done by another."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def size(self) -> int:
        """Return how many workers there are now; they may come and go."""
        try:
            return len(self.client.nthreads())
        except (OSError, RuntimeError) as error:
            raise gone(error) from error

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Work:
        """Hand work out, one piece a worker."""
        work: Work = self.client.submit(_alone, function, *arguments, pure=False)
        return work


_one_at_a_time = threading.Lock()


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Do one piece of work at a time in a process, to which TensorFlow's random numbers and its graph belong."""
    with _one_at_a_time:
        return function(*arguments)


@contextmanager
def dask_pool(count: int | None = None, scheduler: str | None = None) -> Iterator[Pool]:
    """Give Dask's workers: `count` processes on this machine, or those of the scheduler at an address.

    Raises:
        ToolMissingError: Dask is not installed.
        ToolFailedError: no scheduler answers.
        SpecError: both are given, or `count` is out of range.
    """
    if count is not None and scheduler is not None:
        raise SpecError("--workers is for a cluster on this machine", remedy="leave it out: a scheduler has its own")
    count = max(1, (os.cpu_count() or 1) // 2) if count is None else count
    if not 1 <= count <= MOST_WORKERS:
        raise SpecError(f"--workers {count} is not within 1 to {MOST_WORKERS}")
    distributed = import_extra("distributed")
    for name in ("distributed", "distributed.nanny", "distributed.worker", "distributed.scheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler is None:
        local = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
        with (
            distributed.LocalCluster(n_workers=count, silence_logs=logging.CRITICAL, **local) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield DaskPool(client)
        return
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as error:
        what = f"no scheduler of Dask answers at {shown(scheduler)} ({shown(error)})"
        raise ToolFailedError(what, remedy="start it with: dask scheduler") from error
    try:
        yield DaskPool(client)
    finally:
        with suppress(Exception):  # it may be gone
            client.close(timeout=5)
