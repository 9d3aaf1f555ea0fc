"""Synthesis by Yosys: what the design takes of a family of parts, as a whole and op by op (docs/synthesis.md).

The whole design is flattened, so logic is shared across ops and removed where nothing reads it; each op is synthesized
on its own, so the ops need not add up to the whole. What was counted is kept in one JSON file per module and is
counted again only if a file, the script or Yosys changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from flow.backends.yosys.cells import Family, count, find_family
from flow.backends.yosys.scripts import TIMEOUT_S, Script, quoted, read_statistics, run_scripts, yosys_version
from flow.errors import EmitError, at
from flow.files import temporary
from flow.parts import find_device
from flow.progress import Announce, silent
from flow.results import ResourceReport, Resources
from flow.runs import keep, read_kept
from flow.target import Target

RTL = "rtl"
"""Directory of the project's Verilog."""
MODULE = re.compile(rb"^\s*module\s+(\w+)", re.M)
WORD = re.compile(rb"\w+")


@dataclass(frozen=True, slots=True)
class ModuleFiles:
    """A Verilog module and the files that it needs, itself included, relative to the project; with their digest."""

    name: str
    files: tuple[str, ...]
    digest: str


def synthesize(
    directory: Path,
    name: str,
    ops: Sequence[str],
    target: Target,
    cache: Path,
    *,
    announce: Announce = silent,
    timeout_s: float = TIMEOUT_S,
) -> ResourceReport:
    """Synthesize a project and return what it takes.

    Args:
        directory: the project, with `rtl/*.v`.
        name: its top module, the model.
        ops: ops that have a module `<name>_<op>`, in the order of the report.
        target: names the part, and with it the family.
        cache: directory of what was counted before.
        announce: called with a line as each module is done.
        timeout_s: how long one module may take.

    Returns:
        Source "yosys": total, one entry per op, and the script of the total as one line (run in `directory`). There
        is no placement, so no clock period; carry cells (and `bram_4k` of iCE40) are in `detail`.

    Raises:
        SpecError: the part is not known.
        ToolMissingError: Yosys is not installed.
        ToolFailedError: it failed, took too long, or left cells that the family's table does not know.
        EmitError: a module is not in the project.
        OutputError: the cache cannot be written.
    """
    part = find_device(target.part)
    family = find_family(part.family)
    verilog = read_modules(directory)
    modules = {op: module_files(verilog, f"{name}_{op}") for op in ops}
    total = module_files(verilog, name)
    counted = _cells([total, *modules.values()], family, directory, cache, announce, timeout_s)
    return ResourceReport(
        source="yosys",
        tool=yosys_version(),
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        total=_resources(name, counted[total.name], family),
        layers=tuple(_resources(op, counted[module.name], family) for op, module in modules.items()),
        capacity=part.capacity(),
        command="; ".join((*script(total, family), "stat -json")),
        family=part.family,
    )


def dsp_note(report: ResourceReport) -> str:
    """Return which ops of a report take DSPs, in words; empty if none does."""
    taken = [f"'{op.name}' {op.dsp}" for op in report.layers if op.dsp]
    return f"DSPs by {report.tool}, per op: {', '.join(taken)}" if taken else ""


def read_modules(directory: Path) -> dict[str, tuple[str, bytes]]:
    """Return module name -> (path relative to the project, text of its file) of all Verilog of a project."""
    modules = {}
    for path in sorted((directory / RTL).rglob("*.v")):
        text = path.read_bytes()
        for match in MODULE.finditer(text):
            modules[match[1].decode()] = (path.relative_to(directory).as_posix(), text)
    return modules


def module_files(verilog: Mapping[str, tuple[str, bytes]], top: str) -> ModuleFiles:
    """Return a module of what `read_modules` found, with the files of every module that it or they name.

    Raises:
        EmitError: there is no such module.
    """
    if top not in verilog:
        raise EmitError(
            f"the project has no module '{top}' below {RTL}/", remedy=f"it has: {', '.join(sorted(verilog))}"
        )
    files: dict[str, bytes] = {}
    waiting = [top]
    while waiting:
        path, text = verilog[waiting.pop()]
        if path not in files:
            files[path] = text
            named = {word.decode() for word in WORD.findall(text)}
            waiting += sorted(named & verilog.keys())
    digest = sha256(b"".join(path.encode() + b"\0" + sha256(files[path]).digest() for path in sorted(files)))
    return ModuleFiles(top, tuple(sorted(files)), digest.hexdigest())


def script(module: ModuleFiles, family: Family) -> Script:
    """Return the commands that read and synthesize a module, run in the project's directory."""
    return (f"read_verilog {' '.join(module.files)}", f"{family.synthesis} -top {module.name}")


def cache_key(module: ModuleFiles, commands: Sequence[str]) -> str:
    """Return what a result of commands on a module depends on, as a digest."""
    return sha256(json.dumps([module.digest, list(commands), yosys_version()]).encode()).hexdigest()


def _cells(
    modules: Sequence[ModuleFiles],
    family: Family,
    directory: Path,
    cache: Path,
    announce: Announce,
    timeout_s: float,
) -> dict[str, dict[str, int]]:
    """Return module name -> cell type -> how many; the longest, which comes first, starts first."""
    keys = {module.name: cache_key(module, script(module, family)) for module in modules}
    counted = {name: read_kept(cache / f"{name}.json", key) for name, key in keys.items()}
    missing = {module.name: module for module in modules if counted[module.name] is None}
    with temporary() as scratch:

        def finished(name: str) -> None:
            counted[name] = read_statistics(scratch / f"{name}.json")
            keep(cache / f"{name}.json", keys[name], counted[name])
            missing.pop(name)
            announce(f"synthesized {name}", len(keys) - len(missing), len(keys))

        scripts = {
            name: (*script(module, family), f"tee -q -o {quoted(scratch / f'{name}.json')} stat -json")
            for name, module in missing.items()
        }
        run_scripts(scripts, directory, finished, timeout_s)
    return counted


def _resources(name: str, cells: Mapping[str, int], family: Family) -> Resources:
    with at(field=name):
        counts = count(cells, family)
    beside = {key: number for key, number in counts.items() if key in ("carry", "bram_4k")}
    same: dict[str, Any] = {field: counts[field] for field in ("lut", "ff", "dsp", "uram")}
    return Resources(name=name, bram_18k=counts.get("bram_18k"), detail=beside, **same)
