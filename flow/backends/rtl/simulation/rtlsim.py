"""RTL simulation: the emitted Verilog, cycle by cycle, through its AXI-Stream ports, and what passes between its ops.

Yosys reads the Verilog and takes it apart into word-level cells, `elaborate` turns those into steps, and one small
program of C++, the same for every design, runs the steps for 16 simulations side by side (`rtlsim_main.cpp`). So a
design costs no C++ compilation, which for CXXRTL takes minutes on an unrolled layer; that every cell means what CXXRTL
says is tested.

The design starts in reset. Then each port transfers one beat in every cycle in which valid and ready are high. With
`stalls`, each port stalls in bursts of its own, and the data of an input that is not valid are random.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.simulation.elaboration import SCRIPT, elaborate
from flow.backends.rtl.simulation.steps import Bits, Steps
from flow.backends.rtl.verilog.emit import axis_port
from flow.backends.rtl.verilog.op_modules import words
from flow.backends.rtl.verilog.stages import leading_padding
from flow.backends.yosys.scripts import quoted, run_scripts, yosys_version
from flow.errors import EmitError
from flow.files import made_once, temporary
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op
from flow.ir.reference import code_dtype
from flow.project import digest_files
from flow.results import SimResult
from flow.toolchain import require_tool, run_all, run_tool, tool_version

MAIN = "rtlsim_main.cpp"
FLAGS = ("-O3", "-std=c++17")
OWN = (MAIN, "steps.py", "elaboration.py", "rtlsim.py")
"""What a built program depends on, beside the design: a change makes the cache's entries useless."""
LANES = 16
"""Simulations that one process runs side by side; the constant of the same name in the program."""
FEWEST = 8
"""Samples that a simulation should have at least, so that most of it is not filling and draining the pipeline."""
PATIENCE_CYCLES = 10_000
"""Cycles without a transfer at any op or port after which a design counts as stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RtlProgram:
    """A design ready to be simulated.

    Attributes:
        simulator: the program, the same for all designs.
        design: the steps of this design.
        io_type: "io_parallel" (a sample per beat) or "io_stream" (a pixel per beat).
    """

    simulator: Path
    design: Path
    io_type: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RtlRun(SimResult):
    """Codes of every op as they passed its wires, level "rtlsim", and how long that took.

    Attributes:
        latency_cycles: of the first sample, which comes to a design at rest: from the cycle in which its first beat
            enters to that in which its last beat leaves; None with stalls.
        initiation_interval_cycles: the most cycles between the last beats of two consecutive samples, once half of
            them have passed; None with stalls or for one sample.
        cycles: what the longest simulation took, reset included.
        toggles: op -> bits that changed, of all wires and registers that its instances declare and drive, over all
            samples; contents of memories do not count; empty unless they were counted.
    """

    latency_cycles: int | None = None
    initiation_interval_cycles: int | None = None
    cycles: int = 0
    toggles: Mapping[str, int] = field(default_factory=dict)


def compile_rtl(project_dir: Path, graph: IntGraph, io_type: str, build_dir: Path) -> RtlProgram:
    """Return a program that simulates a project, built unless it is in the cache.

    Args:
        project_dir: the project, with `rtl/*.v`.
        graph: its graph: names, shapes and formats of what passes.
        io_type: "io_parallel" or "io_stream".
        build_dir: directory of built programs.

    Raises:
        ToolMissingError: Yosys or g++ is not installed.
        ToolFailedError: one of them failed, for example on a syntax error.
        EmitError: the top lacks a wire or a port, one has the wrong width, or the design cannot be simulated.
        OutputError: the cache cannot be written.
    """
    own = {name: (resources.files("flow.backends.rtl.simulation") / name).read_bytes() for name in OWN}
    sources = {path.name: path.read_bytes() for path in sorted((project_dir / "rtl").glob("*.v"))}
    ops = [(op.name, op.shape, op.format) for op in graph.ops]
    what = [digest_files(own), digest_files(sources), graph.name, ops, graph.outputs, io_type, yosys_version()]
    entry = build_dir.resolve() / hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    def build(scratch: Path) -> None:
        netlist, directory = scratch / "netlist.json", project_dir.resolve() / "rtl"
        read = [f"read_verilog {quoted(directory / name)}" for name in sources]
        script = [*read, f"hierarchy -check -top {graph.name}", *SCRIPT, f"write_json {quoted(netlist)}"]
        run_scripts({"rtlsim": script}, scratch)
        module = json.loads(netlist.read_bytes())["modules"][graph.name]
        _described(module, graph, io_type).tofile(scratch / "design.bin")

    simulator, design = _simulator(build_dir.resolve(), own[MAIN]), made_once(entry, "design.bin", build)
    return RtlProgram(simulator=simulator, design=design, io_type=io_type)


def _simulator(build_dir: Path, source: bytes) -> Path:
    compiler = require_tool("g++")
    key = hashlib.sha256(source + f"{tool_version(compiler)} {FLAGS}".encode()).hexdigest()

    def build(scratch: Path) -> None:
        (scratch / MAIN).write_bytes(source)
        run_tool([compiler, *FLAGS, MAIN, "-o", "rtlsim"], scratch)

    return made_once(build_dir / f"simulator-{key[:16]}", "rtlsim", build)


def _described(module: Mapping[str, Any], graph: IntGraph, io_type: str) -> NDArray[np.int64]:
    """Return a design as the program reads it: its steps, then its ports and ops."""
    steps, outputs = elaborate(module), [graph[name] for name in graph.outputs]
    toggles = _toggles(steps, graph)
    inputs = [_input_port(steps, axis_port(graph, op, "s"), op, io_type) for op in graph.inputs]
    port, wires = ("tvalid", "tready", "tlast", "tdata"), ("valid", "ready", "valid", "data")
    probes = [_probe(steps, op, io_type, [f"{axis_port(graph, op, 'm')}_{wire}" for wire in port]) for op in outputs]
    watched = [_probe(steps, op, io_type, [f"{op.name}_{wire}" for wire in wires]) for op in graph.ops]
    reset = _flag(steps, "aresetn")
    numbers = [steps.slots, reset, *steps.encoded()]
    for items in (toggles, inputs, probes, watched):
        numbers += [len(items), *(number for item in items for number in item)]
    return np.array(numbers, np.uint64).view(np.int64)


def _wire(steps: Steps, name: str, width: int, at_most: int | None = None) -> Bits:
    """Return the nets of a wire of the top."""
    if name not in steps.nets:
        raise EmitError(f"the top module has no wire '{name}'")
    bits = steps.nets[name]
    if not width <= len(bits) <= (at_most or width):
        raise EmitError(f"wire '{name}' of the top module has {len(bits)} bits, not {width}")
    return bits


def _words(op: Op, io_type: str) -> int:
    """Return into how many words a sample of an op is cut."""
    return words(op.shape) if io_type == "io_stream" else 1


def _data(steps: Steps, name: str, op: Op, io_type: str) -> Bits:
    """Return the nets of a word of an op, or of a port, which has whole bytes."""
    bits = math.prod(op.shape) // _words(op, io_type) * op.format.width
    return _wire(steps, name, bits, -(-bits // 8) * 8 if name.endswith("_tdata") else None)


def _input_port(steps: Steps, name: str, op: Op, io_type: str) -> list[int]:
    data, count = _data(steps, f"{name}_tdata", op, io_type), _words(op, io_type)
    valid, last, ready = (_flag(steps, f"{name}_{wire}") for wire in ("tvalid", "tlast", "tready"))
    first, _ = steps.driver(data[0])
    return [valid, last, ready, first, len(data), count, math.prod(op.shape) // count, op.format.width]


def _flag(steps: Steps, name: str) -> int:
    return steps.word(_wire(steps, name, 1))


def _probe(steps: Steps, op: Op, io_type: str, wires: Sequence[str]) -> list[int]:
    """Return valid, ready, last, words per sample, and the elements of a word, each as a number of 64 bits."""
    *flags, data = wires
    bits, width, count = _data(steps, data, op, io_type), op.format.width, _words(op, io_type)
    slots = [steps.number(bits[i * width :][:width], op.format.signed) for i in range(math.prod(op.shape) // count)]
    return [*(_flag(steps, name) for name in flags), count, len(slots), *slots]


def _toggles(steps: Steps, graph: IntGraph) -> list[list[int]]:
    """Return (slot, bits of it, op) of all wires that the ops' instances declare and drive.

    An instance of the top belongs to the op whose name it has, or begins with before a `_`; the longest name counts.
    """
    owners = dict[str, int]()
    for instance in set(steps.instances.values()):
        names = [op.name for op in graph.ops if f"{instance}_".startswith(f"{op.name}_")]
        if names:
            owners[instance] = [op.name for op in graph.ops].index(max(names, key=len))
    masks = dict[tuple[int, int], int]()
    for name, bits in steps.nets.items():
        instance = name.split(".")[0]
        if instance not in owners:
            continue
        for bit in bits:
            if steps.instances.get(bit) == instance:
                slot, place = steps.driver(bit)
                key = (slot, owners[instance])
                masks[key] = masks.get(key, 0) | 1 << place
    return [[slot, mask, op] for (slot, op), mask in masks.items()]


def run_rtl(
    program: RtlProgram,
    graph: IntGraph,
    codes: Codes,
    *,
    stalls: int | None = None,
    toggles: bool = False,
    patience_cycles: int = PATIENCE_CYCLES,
) -> RtlRun:
    """Simulate a design, the samples split over the processors and over 16 simulations in each.

    Args:
        codes: integers (samples, *port_shape).
        stalls: seed of random stalls at all ports; None for none.
        toggles: count the bits that change in each op.
        patience_cycles: cycles without any transfer after which the design counts as stuck.

    Returns:
        Codes of every op, inputs included, as they passed the wires `<op>_data` of the top. What left the ports was
        the same.

    Raises:
        EmitError: the design is stuck, passes too many words, breaks a rule of AXI-Stream, puts `tlast` in a wrong
            beat, or lets another code out than the op has.
        ToolFailedError: the program failed.
    """
    started = time.perf_counter()
    idle = leading_padding(graph) if program.io_type == "io_stream" and stalls is None else 0
    count = max(1, min(os.cpu_count() or 1, len(codes) // (LANES * FEWEST)))
    parts = np.array_split(codes.astype(np.int64), count)
    with temporary() as scratch:
        directories = [scratch / str(number) for number in range(count)]
        commands = []
        for number, (part, directory) in enumerate(zip(parts, directories, strict=True)):
            directory.mkdir()
            for place, tensor in enumerate(graph.split_port(part).values()):
                np.ascontiguousarray(tensor).tofile(directory / f"{place}.bin")
            seed = -1 if stalls is None else stalls * count + number
            settings = [len(part), _per_simulation(len(part)), seed, patience_cycles, int(toggles), idle]
            files = [program.design, directory, directory]
            commands.append([str(program.simulator), *map(str, files), *map(str, settings)])
        for number, said in enumerate(run_all(commands, scratch)):
            if said:
                first = sum(len(part) for part in parts[:number])
                raise EmitError(f"rtlsim of {graph.name}: {_explained(said, graph, first)}")
        results = {
            op.name: np.concatenate([_read(d / f"op{i}.bin", op) for d in directories]).astype(code_dtype(op.format))
            for i, op in enumerate(graph.ops)
        }
        for i, name in enumerate(graph.outputs):
            _check_port(np.concatenate([_read(d / f"port{i}.bin", graph[name]) for d in directories]), name, results)
        flips = np.sum([np.fromfile(d / "toggles.bin", np.int64) for d in directories], axis=0)
        times = np.fromfile(directories[0] / "times.bin", np.int64).reshape(-1, 2)[: _per_simulation(len(parts[0]))]
        cycles = max(int(np.fromfile(d / "cycles.bin", np.int64)[0]) for d in directories)
    measured = times if stalls is None else times[:0]
    between = np.diff(measured[:, 1])
    return RtlRun(
        level="rtlsim",
        codes=results,
        arithmetic="verilog",
        run_s=time.perf_counter() - started,
        latency_cycles=int(measured[0, 1] - measured[0, 0]) if len(measured) else None,
        initiation_interval_cycles=int(between[len(between) // 2 :].max()) if len(between) else None,
        cycles=cycles,
        toggles={op.name: int(n) for op, n in zip(graph.ops, flips, strict=True)} if toggles else {},
    )


def _per_simulation(samples: int) -> int:
    """Return how many samples each simulation gets."""
    return max(FEWEST, -(-samples // LANES))


def _read(path: Path, op: Op) -> Codes:
    return np.fromfile(path, np.int64).reshape(-1, *op.shape)


def _check_port(left: Codes, name: str, results: Mapping[str, Codes]) -> None:
    wrong = np.argwhere(left != results[name])
    if len(wrong):
        sample, *index = wrong[0].tolist()
        where = (sample, *index)
        raise EmitError(
            f"sample {sample} of output '{name}' leaves its port with code {left[where]} at {tuple(index)}, "
            f"and the op with {results[name][where]}",
            tool="rtlsim",
        )


def _explained(said: str, graph: IntGraph, first_sample: int) -> str:
    """Return in words what the program says about a design that went wrong; its samples begin with `first_sample`."""
    problem, *rest = [line.split() for line in said.splitlines()]
    what, (index, sample, count, cycle) = problem[0], map(int, problem[1:])
    since = f"in cycle {cycle} of the simulation that began with sample {first_sample + sample}"
    if what == "deadlock":
        waiting = [_waiting(graph.ops[int(i)].name, int(n), v == "1", r == "1") for _, i, n, v, r in rest]
        return f"nothing passes any more {since}: {'; '.join(waiting)}"
    if what == "surplus":
        return f"op '{graph.ops[index].name}' passes more than its {count} words {since}"
    wrong = {
        "more": "leaves although it is one too many",
        "tlast": "has the wrong tlast",
        "unstable": "changes tvalid, tdata or tlast while tready is low",
    }[what]
    return f"output '{graph.outputs[index]}': beat {count} {wrong} {since}"


def _waiting(name: str, count: int, valid: bool, ready: bool) -> str:
    state = {(False, False): "waits for both sides", (True, False): "waits for its readers"}
    return f"'{name}' {state.get((valid, ready), 'waits for its inputs')} after {count} words"
