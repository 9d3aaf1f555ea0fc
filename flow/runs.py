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

A stage is done when its key stands in the manifest, and its key is written after its files are whole; so an
interrupted run goes on where it stopped, and a changed input or a file that was damaged since makes its stage run
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flow.errors import InputError, OutputError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run directory on disk."""

    path: Path

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; empty if there is none yet or it is damaged, which makes every stage run again."""
        try:
            data = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError):
            return {}
        whole = isinstance(data, dict) and all(
            isinstance(data.get(key, {}), dict) for key in ("stages", "files", "project")
        )
        return data if whole else {}

    def is_done(self, stage: str, key: str, *files: str) -> bool:
        """Say whether a stage was finished with this key, and its files are as it left them."""
        return self.manifest().get("stages", {}).get(stage) == key and self.is_intact(*files)

    def mark_done(self, stage: str, key: str, *files: str) -> None:
        self.describe({"stages": {**self.manifest().get("stages", {}), stage: key}})
        self.record(*files)

    def is_intact(self, *files: str) -> bool:
        """Say whether files are as they were when they were recorded."""
        recorded = self.manifest().get("files", {})
        paths = {name: self.path / name for name in files}
        return all(path.is_file() and recorded.get(name) == digest_file(path) for name, path in paths.items())

    def record(self, *files: str) -> None:
        """Put the digests of files into the manifest."""
        digests = {name: digest_file(self.path / name) for name in files}
        self.describe({"files": {**self.manifest().get("files", {}), **digests}})

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the manifest."""
        self.write_json(MANIFEST, {**self.manifest(), **facts})

    def write_json(self, name: str, data: Any) -> None:
        with writing(self.path / name) as file:
            file.write((json.dumps(data, indent=1) + "\n").encode())

    def write_text(self, name: str, text: str) -> None:
        with writing(self.path / name) as file:
            file.write(text.encode())


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
        what = "this build was interrupted before its project was written"
        raise InputError(what, file=path, remedy="run 'flow build' again")
    return run


@contextmanager
def writing(path: Path) -> Any:
    """Open a file that appears whole or not at all.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as file:
            scratch = file.name
            opened: BinaryIO = file.file  # type: ignore[assignment]
            yield opened
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
        scratch = None
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", file=path) from error
    finally:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, compress: bool = False) -> None:
    """Write arrays as an `.npz` file that appears whole or not at all."""
    save: Any = np.savez_compressed if compress else np.savez
    with writing(path) as file:
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
        file.write((json.dumps({"key": key, "result": result}, indent=1) + "\n").encode())


def read_kept(path: Path, key: str) -> Any:
    """Return what `keep` left in a file under this key; None if there is none, another, or it is damaged."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data.get("result") if isinstance(data, dict) and data.get("key") == key else None


def digest(*parts: Any) -> str:
    """Return the SHA-256 of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files under a directory with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(item for item in path.rglob("*") if item.is_file())
    return digest([[item.relative_to(path).as_posix(), digest_file(item)] for item in files])


def digest_code(package: str) -> str:
    """Return the SHA-256 of the modules of a package of `flow`: what another version of them made may differ."""
    return digest([digest_file(path) for path in sorted((Path(__file__).parent / package).glob("*.py"))])
