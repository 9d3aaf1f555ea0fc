"""The measurement: every circuit synthesized, checked against its definition, and simulated."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flow.backends.yosys.cells import FAMILIES, count
from flow.backends.yosys.scripts import TIMEOUT_S, Script, read_statistics, run_scripts, yosys_version
from flow.cost.requantizers import RUNTIME, Costs, costs_from_json
from flow.errors import EmitError, SpecError
from flow.files import locked, temporary
from flow.progress import Announce, silent
from flow.runs import digest, keep, read_kept
from flow.study.circuits import CIRCUITS, TOP, Circuit, verilog
from flow.study.definitions import Codes
from flow.study.gates import Netlist, Simulation, read_netlist
from flow.study.liberty import GENERIC, Library, read_library
from flow.study.vectors import cases, codes_of, model_accumulators, scope, widened

CLOCK_PERIOD_NS = 20.0
LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""Where Debian's qflow-tech-osu018 puts its library."""
MAPPING = "+strash;dch,-f;{map};topo;buffer,-c;upsize,-D,{ps};dnsize,-D,{ps};stime,-p"
GENERIC_MAPPING = "+strash;dch,-f;map"
GATES = "AND,NAND,OR,NOR,XOR,XNOR,MUX,NMUX,ANDNOT,ORNOT,AOI3,OAI3,AOI4,OAI4"
FPGAS = {
    "xc7": f"{FAMILIES['7-series'].synthesis} -top {TOP}",
    "xc7_nodsp": f"{FAMILIES['7-series'].synthesis} -nodsp -top {TOP}",
    "xcup": f"{FAMILIES['UltraScale+'].synthesis} -top {TOP}",
    "xcup_nodsp": f"{FAMILIES['UltraScale+'].synthesis} -nodsp -top {TOP}",
}
NO_DSP_OUT_BITS = 8
"""What makes codes of fewer bits is not synthesized for FPGAs without DSPs, but for codebooks that have no more."""
NO_DSP_BITS = 32
"""Run-time multipliers of narrower accumulators are not synthesized without DSPs, which takes minutes for each."""
CELLS = "cells"
DECODED_BITS = 16
"""Width of the accumulators whose top bits decoders are simulated on."""
SOURCES = ("circuits.py", "definitions.py", "gates.py", "liberty.py", "vectors.py")
"""What a check and a simulation depend on besides the netlist."""


@dataclass(frozen=True, slots=True)
class Job:
    """One circuit at one pair of widths, for one kind of hardware."""

    circuit: Circuit
    acc_bits: int
    out_bits: int
    kind: str

    @property
    def module(self) -> str:
        """Name of its Verilog file, without the suffix."""
        return f"{self.circuit.name}_{self.acc_bits}_{self.out_bits}"

    @property
    def storage_bits(self) -> int:
        """Bits that the circuit stores."""
        return self.circuit.storage_bits(self.acc_bits, self.out_bits)

    @property
    def name(self) -> str:
        """What its results are called."""
        return f"{self.module}.{self.kind}"


def find_library(path: Path = LIBERTY) -> Library:
    """Return the standard cells at hand: the library at `path`, otherwise generic gates.

    Raises:
        ModelFileError: the file is no liberty file.
    """
    return read_library(path) if path.exists() else GENERIC


def find_circuits(names: Sequence[str]) -> tuple[Circuit, ...]:
    """Return circuits by name; all of them if there are no names.

    Raises:
        SpecError: there is no circuit of a name.
    """
    for name in names:
        if name not in CIRCUITS:
            raise SpecError(f"no requantizer '{name}'", remedy=f"there are {', '.join(CIRCUITS)}")
    return tuple(CIRCUITS[name] for name in names) if names else tuple(CIRCUITS.values())


def measure(
    circuits: Sequence[Circuit],
    cache: Path,
    *,
    widths: Sequence[tuple[int, int]] | None = None,
    library: Library | None = None,
    announce: Announce = silent,
    timeout_s: float = TIMEOUT_S,
) -> Costs:
    """Measure circuits.

    Args:
        circuits: which.
        cache: directory for what was measured; it is not measured again while circuit, script and Yosys are the same.
        widths: only these (acc_bits, out_bits), if given.
        library: standard cells (default: those of `find_library`).
        announce: called with a line as each job is done.
        timeout_s: how long one run of Yosys may take.

    Raises:
        ToolMissingError: Yosys is not installed.
        ToolFailedError: it failed or took too long.
        EmitError: a netlist does not do what the circuit's definition says.
        OutputError: the cache cannot be written.
    """
    library = library or find_library()
    yosys_version()
    jobs = [
        Job(circuit, *pair, kind)
        for circuit in circuits
        for pair in circuit.widths
        if widths is None or pair in widths
        for kind in (CELLS, *FPGAS)
        if kind == CELLS or _on_fpga(circuit, *pair, kind)
        if circuit.multiplies or not kind.endswith("_nodsp")
    ]
    jobs.sort(key=lambda job: (job.kind != CELLS, job.storage_bits, -job.acc_bits))
    accumulators = model_accumulators()
    with locked(cache):
        found = _results(jobs, cache, library, accumulators, announce, timeout_s)
    rows = [_row(job, found, library) for job in jobs if job.kind == CELLS]
    order = {name: index for index, name in enumerate(CIRCUITS)}
    rows.sort(key=lambda row: (order[row["circuit"]], -row["acc_bits"], -row["out_bits"]))
    return costs_from_json(
        {
            "cell_library": library.name,
            "area_unit": "transistors" if library.path is None else "square micrometres",
            "energy_unit": "transistor gates switched" if library.voltage is None else "fJ",
            "clock_period_ns": CLOCK_PERIOD_NS,
            "tools": {"yosys": yosys_version(), "library": library.name},
            "scripts": {CELLS: cell_script(library), **{name: (command,) for name, command in FPGAS.items()}},
            "accumulators": {name: len(acc) for name, acc in accumulators.items()},
            "rows": rows,
        }
    )


def _on_fpga(circuit: Circuit, acc_bits: int, out_bits: int, kind: str) -> bool:
    if not kind.endswith("_nodsp"):
        return True
    if circuit.multiplies and circuit.parameters == RUNTIME and acc_bits < NO_DSP_BITS:
        return False
    return out_bits >= min(NO_DSP_OUT_BITS, max(each for _, each in circuit.widths))


def cell_script(library: Library) -> Script:
    """Return the commands that map a module to standard cells, run beside `cells.lib`."""
    if library.path is None:
        mapping = ("dfflegalize -cell $_DFF_P_ x", f"abc -g {GATES} -script {GENERIC_MAPPING}")
    else:
        picoseconds = f"{1000 * CLOCK_PERIOD_NS:g}"
        mapping = (
            "dfflibmap -liberty cells.lib",
            f"abc -liberty cells.lib -script {MAPPING.format(map='amap,-m', ps=picoseconds)}",
        )
    first, second = mapping
    return (f"synth -flatten -booth -noabc -top {TOP}", first, "opt -nodffe -nosdff", second, "opt_clean -purge")


def _results(
    jobs: Sequence[Job],
    cache: Path,
    library: Library,
    accumulators: Mapping[str, Codes],
    announce: Announce,
    timeout_s: float,
) -> dict[str, Any]:
    """Return job name -> what was measured, measuring what is not in the cache."""
    by_name = {job.name: job for job in jobs}
    keys = {job.name: _key(job, library, accumulators) for job in jobs}
    found = {name: read_kept(cache / f"{name}.json", key) for name, key in keys.items()}
    waiting = [name for name in by_name if found[name] is None]
    with temporary() as directory:
        if library.path is not None:
            shutil.copyfile(library.path, directory / "cells.lib")
        for job in jobs:
            (directory / f"{job.module}.v").write_text(verilog(job.circuit, job.acc_bits, job.out_bits))

        def finished(name: str) -> None:
            job = by_name[name]
            if job.kind == CELLS:
                netlist = read_netlist(directory / f"{name}.json", TOP, library)
                result = examine(job, netlist, library, accumulators)
                result["delay_ns"] = read_delay((directory / f"{name}.log").read_text())
            else:
                result = dict(read_statistics(directory / f"{name}.json"))
            found[name] = result
            keep(cache / f"{name}.json", keys[name], result)
            waiting.remove(name)
            announce(f"measured {name}", len(jobs) - len(waiting), len(jobs))

        run_scripts({name: _script(by_name[name], library) for name in waiting}, directory, finished, timeout_s)
    return found


def _script(job: Job, library: Library) -> Script:
    read = f"read_verilog {job.module}.v"
    if job.kind != CELLS:
        return (read, FPGAS[job.kind], f"tee -q -o {job.name}.json stat -json")
    commands = [f"tee -q -o {job.name}.log {each}" if each.startswith("abc") else each for each in cell_script(library)]
    return (read, *commands, f"write_json {job.name}.json")


def _key(job: Job, library: Library, accumulators: Mapping[str, Codes]) -> str:
    texts = [verilog(job.circuit, job.acc_bits, job.out_bits), *_script(job, library), yosys_version()]
    if job.kind == CELLS:
        texts += [(resources.files("flow.study") / name).read_text() for name in SOURCES]
        texts.append(library.name if library.path is None else library.path.read_text())
        texts += [sha256(acc.tobytes()).hexdigest() for acc in accumulators.values()]
    return digest(*texts)


def read_delay(log: str) -> float | None:
    """Return the delay in ns that ABC's `stime` printed last; None if it printed none."""
    found = re.findall(r"Delay = +([\d.]+) ps", log)
    return round(float(found[-1]) / 1000, 2) if found else None


def examine(job: Job, netlist: Netlist, library: Library, accumulators: Mapping[str, Codes]) -> dict[str, Any]:
    """Check a netlist bit for bit and return its area, its energy and how much was checked.

    Raises:
        EmitError: an output differs from the definition.
    """
    checked, circuit, acc_bits = check(job, netlist), job.circuit, job.acc_bits
    to_fj = 1.0 if library.voltage is None else 1000 * library.voltage**2 / 2
    values = circuit.values(acc_bits, job.out_bits)
    simulation = _ready(job, netlist, values)

    def energy(*, zeros: bool) -> float:
        acc = widened(accumulators, acc_bits if circuit.signed else DECODED_BITS, zeros=zeros)
        sequence = acc if circuit.signed else codes_of(acc, DECODED_BITS, acc_bits)
        toggles = simulation.toggled(_inputs(circuit, sequence, values), len(sequence))
        return round(float(toggles @ netlist.load) / (len(sequence) - 1) * to_fj, 2)

    return {
        "area": netlist.area,
        "register_area": netlist.register_area,
        "cells": sum(netlist.cells.values()),
        "energy": energy(zeros=False),
        "energy_zeros": energy(zeros=True),
        "clock_energy": round(2 * netlist.clock_load * to_fj, 2),
        "checked": {"scope": scope(circuit, acc_bits), "inputs": checked},
    }


def check(job: Job, netlist: Netlist) -> int:
    """Hold a netlist against the circuit's definition and return on how many inputs.

    Raises:
        EmitError: an output differs.
    """
    circuit, checked, loaded, simulation = job.circuit, 0, None, Simulation(netlist)
    for case in cases(circuit, job.acc_bits, job.out_bits):
        if loaded is not case.parameters:
            simulation = _ready(job, netlist, case.parameters)
            loaded = case.parameters
        inputs = _inputs(circuit, case.acc, case.parameters)
        codes = simulation.codes(inputs, len(case.acc), signed=circuit.signed_code)
        expected = circuit.define(case.acc, case.parameters, job.out_bits)
        if (wrong := np.flatnonzero(codes != expected)).size:
            first = wrong[0]
            given = {name: int(each[first]) if np.ndim(each) else each for name, each in inputs.items()}
            raise EmitError(
                f"{circuit.name}, {job.acc_bits} -> {job.out_bits}: the netlist gives {codes[first]}, the definition "
                f"{expected[first]}, at {given} and {wrong.size - 1} other inputs"
            )
        checked += len(case.acc)
    return checked


def _inputs(circuit: Circuit, acc: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    ports = {"acc_in": acc}
    if circuit.parameters == RUNTIME:
        ports |= {"write": 0} if circuit.memory else dict(parameters)
    return ports


def _ready(job: Job, netlist: Netlist, parameters: Mapping[str, Any]) -> Simulation:
    """Return a simulation whose memory, if the circuit has one, holds what the parameters say."""
    simulation, circuit = Simulation(netlist), job.circuit
    if circuit.memory is not None and circuit.parameters == RUNTIME:
        where = circuit.address or (lambda index, out_bits: index)
        words = enumerate(parameters[circuit.memory])
        simulation.write({where(index, job.out_bits): int(word) for index, word in words}, {"acc_in": 0})
    return simulation


def _row(job: Job, found: Mapping[str, Any], library: Library) -> dict[str, Any]:
    def fpga(kind: str) -> dict[str, int] | None:
        if not _on_fpga(job.circuit, job.acc_bits, job.out_bits, kind):
            return None
        family = FAMILIES["7-series" if kind.startswith("xc7") else "UltraScale+"]
        cells = found.get(f"{job.module}.{kind}") or found[f"{job.module}.{kind.removesuffix('_nodsp')}"]
        counts = count(cells, family)
        return {name: counts[name] for name in ("lut", "ff", "carry", "dsp", "bram_18k")}

    circuit, measured = job.circuit, dict(found[job.name])
    flip_flop = next(cell for cell in library.cells.values() if cell.function is None)
    storage = job.storage_bits * flip_flop.area / measured["register_area"]  # share of the flip-flops
    for name in ("register_area", "clock_energy"):
        measured[name] = round(measured[name] * (1 - storage), 2)
    return {
        "circuit": circuit.name,
        "parameters": circuit.parameters,
        "acc_bits": job.acc_bits,
        "out_bits": job.out_bits,
        "multiplier_bits": circuit.multiplier_bits,
        "entries": circuit.entries or (1 << job.out_bits if circuit.memory else None),
        "storage_bits": job.storage_bits,
        **measured,
        **{kind: fpga(kind) for kind in FPGAS},
    }
