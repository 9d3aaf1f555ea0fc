"""Run directories: one per model and target, holding the graph, the project, the inputs and the report.

    hls_projects/<model>/<backend>/<digest12>/
        manifest.json       what was asked, versions, a key for each finished stage, and digests of the files below, of
                            the project each file's as it was written
        graph.json          the lowered IntGraph
        model/              the model it was made of, and its graph before any pass
        project/            the generated HLS project
        inputs.npz          input codes, labels, adversarial input codes
        csim/<key>/csim     the compiled simulation
        qkeras.npz          software inference on those inputs
        report.json, report.md, report.html, counterexample.npz

A stage is done when its key stands in the manifest. It is written after its files are whole, together with the digests
of the bytes that went into them; so an interrupted run goes on where it stopped, and a changed input or a file that was
damaged since makes its stage run again. One process at a time builds or compares a run (`flow.files.locked`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import InputError, OutputError
from flow.files import BESIDE, Written, holder, locked, writing
from flow.json_text import json_text

MANIFEST = "manifest.json"
LEFTOVERS = (*(f"{place}/{BESIDE}*" for place in ("*", "model/*")), "csim/*/tmp*", "rtlsim/*/tmp*")
"""Scratch files of killed processes below a run directory; the last two are what compilations left until now."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run directory on disk.

    Attributes:
        path: where it is.
        written: file -> SHA-256 of the bytes that were written to it through this value.
    """

    path: Path
    written: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; empty if there is none yet or it is damaged, which makes every stage run again."""
        try:
            data = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        whole = isinstance(data, dict) and all(
            isinstance(data.get(key, {}), dict) for key in ("stages", "files", "project")
        )
        return data if whole else {}

    def is_done(self, stage: str, key: str) -> bool:
        """Say whether a stage was finished with this key; whether its files are as it left them, `read` says."""
        return bool(self.manifest().get("stages", {}).get(stage) == key)

    def mark_done(self, stage: str, key: str, *files: str) -> None:
        """Record a stage, and files that it wrote: key and digests appear together."""
        manifest = self.manifest()
        digests = {name: self.written[name] for name in files}
        stages, recorded = {**manifest.get("stages", {}), stage: key}, {**manifest.get("files", {}), **digests}
        self.describe({"stages": stages, "files": recorded})

    def read(self, name: str) -> bytes:
        """Return the content of a file, as it was when it was recorded.

        Raises:
            InputError: it is missing, or was changed.
        """
        try:
            content = (self.path / name).read_bytes()
        except OSError:
            content = None
        recorded = self.manifest().get("files", {}).get(name)
        if content is not None and recorded == hashlib.sha256(content).hexdigest():
            return content
        what = f"{name} is missing or was changed"
        if recorded is None and content is None:
            what = f"{name} is not there yet: the build was interrupted before it wrote that"
        if held := holder(self.path):
            raise InputError(what, file=self.path, remedy=f"{held} writes there, wait for its end")
        raise InputError(what, file=self.path, remedy=self.again())

    def again(self) -> str:
        """Return what to do for a run that is not whole."""
        commands = self.manifest().get("commands")
        return f"run again: {commands[-1]}" if isinstance(commands, list) and commands else "run 'flow build' again"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the manifest."""
        self.write_json(MANIFEST, {**self.manifest(), **facts})

    @contextmanager
    def writing(self, name: str) -> Iterator[Written]:
        """Open a file that appears whole or not at all; the digest of its bytes is kept for `mark_done`."""
        with writing(self.path / name) as file:
            yield file
        self.written[name] = file.digest()

    def write_json(self, name: str, data: Any) -> None:
        self.write_text(name, json_text(data) + "\n")

    def write_text(self, name: str, text: str) -> None:
        with self.writing(name) as file:
            file.write(text.encode())

    def write_npz(self, name: str, arrays: Mapping[str, NDArray[Any]], *, compress: bool = False) -> None:
        with self.writing(name) as file:
            _save(file, arrays, compress)

    def read_npz(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of an `.npz` file, as it was when it was recorded.

        Raises:
            InputError: it is missing, or was changed.
        """
        with np.load(io.BytesIO(self.read(name)), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run against every other build and comparison; one that cannot be written needs no lock.

        Raises:
            OutputError: it cannot be locked.
        """
        with nullcontext() if self.is_read_only else locked(self.path, *LEFTOVERS):
            yield

    @property
    def is_read_only(self) -> bool:
        """Whether it is there and this process may not write in it."""
        return self.path.is_dir() and not os.access(self.path, os.W_OK)


def open_run(path: Path) -> RunDirectory:
    """Return an existing run directory.

    Raises:
        InputError: it is none, or its build never got as far as a project.
    """
    run = RunDirectory(path)
    if not run.manifest():
        remedy = "'flow build' prints where it put one"
        raise InputError(f"not a run directory (no readable {MANIFEST})", file=path, remedy=remedy)
    if "emit" not in run.manifest().get("stages", {}):
        if held := holder(path):
            raise InputError("its project is not written yet", file=path, remedy=f"{held} builds it, wait for its end")
        what = "it has no project: its build was interrupted, or asked to stop, before it wrote one"
        raise InputError(what, file=path, remedy="run 'flow build' again, to a later stage")
    return run


def outside_runs(path: Path) -> None:
    """Refuse a file or a folder to be written that lies in a run directory: what is added there is none of the run's.

    Raises:
        OutputError: it does.
    """
    place = Path(os.path.realpath(path))
    for each in (place, *place.parents):
        if "stages" in RunDirectory(each).manifest():
            raise OutputError(f"lies in the run directory {each}", file=path, remedy="name a place outside of it")


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, compress: bool = False) -> None:
    """Write arrays as an `.npz` file that appears whole or not at all."""
    with writing(path) as file:
        _save(file, arrays, compress)


def _save(file: Written, arrays: Mapping[str, NDArray[Any]], compress: bool) -> None:
    save: Any = np.savez_compressed if compress else np.savez
    save(file, **arrays)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # closed even if it is no archive
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=path) from error
    except Exception as error:  # zip, header and type errors are many
        raise InputError(f"cannot be read ({error})", file=path) from error


def keep(path: Path, key: str, result: Any) -> None:
    """Write a result, JSON types, and its key into a file that appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path) as file:
        document = {"key": key, "digest": digest(result), "result": result}
        file.write((json_text(document) + "\n").encode())


def read_kept(path: Path, key: str) -> Any:
    """Return what `keep` left in a file under this key; None if there is none, another, or it is damaged."""
    try:
        data = json.loads(path.read_text())
        result = data["result"]
        return result if (data["key"], data["digest"]) == (key, digest(result)) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def digest(*parts: Any) -> str:
    """Return the SHA-256 of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files under a directory with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = (item for item in path.rglob("*") if item.is_file())
    return digest_tree({item.relative_to(path).as_posix(): digest_file(item) for item in files})


def digest_tree(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of all files under a directory, given that of each by its name below it."""
    return digest([[name, files[name]] for name in sorted(files, key=lambda name: name.split("/"))])


def digest_code(package: str) -> str:
    """Return the SHA-256 of the modules of a package of `flow`: what another version of them made may differ."""
    return digest([digest_file(path) for path in sorted((Path(__file__).parent / package).glob("*.py"))])
