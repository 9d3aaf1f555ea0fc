"""Proof, op by op: whether the Verilog of a project computes what the graph says, for all inputs (docs/proof.md).

Each op is proved in a process of its own, in which Yosys reads the files of the op's module as they lie on disk. What
was shown is kept by the digest of these files, of the op and of the code that shows it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flow.backends.rtl.proof.circuit import Circuit, read_circuit, read_instances
from flow.backends.rtl.proof.claims import Claim
from flow.backends.rtl.proof.engines import BITWUZLA, Answer, prove_claim
from flow.backends.rtl.proof.samples import Difference
from flow.backends.rtl.proof.terms import bitwuzla_version
from flow.backends.rtl.proof.wiring import WiringError, check_top, op_circuits
from flow.backends.rtl.synthesis.synth import ModuleFiles, module_files, read_modules
from flow.backends.yosys.scripts import quoted, yosys_version
from flow.errors import ToolFailedError
from flow.files import temporary
from flow.ir.graph import Input, IntGraph, Op, from_json, to_json
from flow.json_text import json_text
from flow.progress import Announce, silent
from flow.runs import keep, read_kept
from flow.toolchain import run_pool

PROVED, EXHAUSTIVE, TESTED = "proved", "exhaustive", "tested"
SCOPES = (PROVED, EXHAUSTIVE, TESTED)
"""Equal for all inputs, by SAT or algebra; for all inputs, each run; for the inputs that simulation ran."""
BY_INTERVALS, BY_EQUALITY, NOT_SHOWN = "none, by intervals", "none, by equality", "not shown"
"""Why no adder overflows: each wire holds every sum; or else the result equals the exact one, for all inputs."""
CHILD = "import sys; from flow.backends.rtl.proof.prove import child; child(*sys.argv[1:])"
BESIDE_SOLVER_S = 600.0
"""How long reading, forms and samples of one op may take; the time limit counts for what comes then."""
READ = ("proc -norom -noopt",)
TOP = "(top)"
"""Stands for the top module among the ops, none of which can be called so."""
LIBRARIES = ("po2flow_stream.v", "po2flow_states.v")
"""Files of what happens over time, which is left to simulation."""
FAILED = " failed"
"""In an answer: why there is none. No op is called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was shown of an op.

    Attributes:
        scope: one of `SCOPES`, the weakest of all its output codes.
        inputs: how many inputs were run; None if proved.
        engine: what showed it.
        seconds: how long it took, when it was done.
        overflow: whether adders can overflow: `BY_INTERVALS`, `BY_EQUALITY` or `NOT_SHOWN`.
        simulated: what of the op beside handshakes only simulation covers: "line buffer", "frame buffers", "states" or
            "".
    """

    scope: str
    inputs: int | None
    engine: str
    seconds: float
    overflow: str
    simulated: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return `layers[].proof` of the report's JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuted:
    """Verilog that does not compute its op.

    Attributes:
        op: name of the op.
        module: the Verilog module.
        reason: what is wrong, in words.
        inputs: codes of the module's inputs for which it is wrong; None if it is a wire or a register.
        output: which of the module's output codes is wrong then.
        found, expected: that code, and what it should be.
    """

    op: str
    module: str
    reason: str
    inputs: tuple[int, ...] | None = None
    output: int | None = None
    found: int | None = None
    expected: int | None = None

    def __str__(self) -> str:
        return f"op '{self.op}': {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return what is wrong as JSON types."""
        return asdict(self)


def prove(
    project_dir: Path,
    graph: IntGraph,
    io_type: str,
    *,
    time_limit_s: float,
    cache_dir: Path,
    tested: int,
    announce: Announce = silent,
) -> dict[str, Proof | Refuted]:
    """Prove each op of a project, side by side.

    Args:
        project_dir: the project, with `rtl/*.v`.
        graph: what it should compute.
        io_type: "io_parallel" or "io_stream".
        time_limit_s: how long the solver may take for one op.
        cache_dir: directory of what was shown before.
        tested: how many samples a simulation of the project ran: the inputs of what is neither proved nor refuted.
        announce: called with a line as each op is done.

    Returns:
        Op name -> what was shown, in the graph's order, without its inputs.

    Raises:
        ToolMissingError: Yosys or bitwuzla is not installed.
        ToolFailedError: a module cannot be read, or has something that no module of ours has.
        EmitError: a module is not in the project.
        OutputError: the cache cannot be written.
    """
    verilog = read_modules(project_dir)
    modules = {
        op.name: module_files(verilog, f"{graph.name}_{op.name}") for op in graph.ops if not isinstance(op, Input)
    }
    module_files(verilog, graph.name)
    keys = {name: _key(graph, name, io_type, module) for name, module in modules.items()}
    kept = {name: read_kept(cache_dir / f"{name}.json", key) for name, key in keys.items()}
    shown = {  # unless a further attempt could show more
        name: result
        for name, result in kept.items()
        if result is not None and (result["scope"] != TESTED or result["time_limit_s"] >= time_limit_s)
    }
    with temporary() as scratch:
        job = {"graph": to_json(graph), "directory": str(project_dir.resolve()), "stream": io_type == "io_stream"}
        missing = {name: module for name, module in modules.items() if name not in shown}
        commands, files_of = {}, {name: module.files for name, module in missing.items()}
        for name, files in {TOP: (verilog[graph.name][0],), **files_of}.items():
            path = scratch / f"{name}.job"
            path.write_text(json_text({**job, "op": name, "files": files, "time_limit_s": time_limit_s}, indent=None))
            commands[name] = [sys.executable, "-c", CHILD, str(path), str(path.with_suffix(".answer"))]

        def finished(name: str) -> None:
            answer = json.loads((scratch / f"{name}.answer").read_text())
            if FAILED in answer:
                raise ToolFailedError(answer[FAILED], field=name)
            if name in missing:
                shown[name] = answer
                keep(cache_dir / f"{name}.json", keys[name], shown[name])
                announce(f"proofs: {name} {shown[name]['scope']}", len(shown), len(modules))

        run_pool(commands, project_dir, BESIDE_SOLVER_S + time_limit_s, finished)
        wires = json.loads((scratch / f"{TOP}.answer").read_text())
    late = _late(graph, shown, wires) if io_type != "io_stream" else {}
    return {
        name: _stated(graph.name, name, shown[name], wires[name][0] or late.get(name, ""), tested) for name in modules
    }


def _key(graph: IntGraph, name: str, io_type: str, module: ModuleFiles) -> str:
    """Return what a proof depends on, as a digest."""
    sources = {x.name for x in graph.sources(graph[name])}
    ops = [op for op in to_json(graph)["ops"] if op["name"] == name or op["name"] in sources]
    code = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(__file__).parent.glob("*.py"))]
    parts = [module.digest, ops, io_type, yosys_version(), bitwuzla_version(), code]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _late(graph: IntGraph, shown: Mapping[str, Any], wires: Mapping[str, Any]) -> dict[str, str]:
    """Return which ops of one pipeline read values of different samples."""
    arrives: dict[str, int | None] = {}
    late = {}
    for op in graph.ops:
        delays = wires[op.name][1] if op.name in wires else []
        starts = [arrives[x] for x in op.inputs]
        times = [start + delay for start, delay in zip(starts, delays, strict=False) if start is not None]
        if len(set(times)) > 1:
            late[op.name] = f"its inputs arrive {', '.join(map(str, times))} cycles after the sample"
        depth = shown[op.name]["depth"] if op.name in shown else 0
        known = depth is not None and None not in starts and len(delays) == len(op.inputs)
        arrives[op.name] = max(times, default=0) + depth if known else None
    return late


def _stated(top: str, name: str, shown: Mapping[str, Any], wires: str, tested: int) -> Proof | Refuted:
    if wires:
        return Refuted(op=name, module=top, reason=wires)
    if shown["scope"] == "refuted":
        example = {**shown["difference"], "inputs": tuple(shown["difference"]["inputs"])} if shown["difference"] else {}
        return Refuted(op=name, module=shown.get("module", f"{top}_{name}"), reason=shown["reason"], **example)
    inputs = {PROVED: None, EXHAUSTIVE: shown["codes"], TESTED: tested}[shown["scope"]]
    kept = {field: shown[field] for field in ("scope", "engine", "seconds", "overflow", "simulated")}
    return Proof(inputs=inputs, **kept)


def child(job: str, answer: str) -> None:
    """Do one job of `prove`: read files by Yosys, prove an op or check the wires of the top; write what was found."""
    try:
        found = _do(json.loads(Path(job).read_text()))
    except ToolFailedError as error:
        found = {FAILED: str(error)}
    Path(answer).write_text(json_text(found, indent=None))


def _do(job: Mapping[str, Any]) -> Any:
    """Return the answer to a job, as JSON types."""
    started = time.monotonic()
    graph, stream = from_json(job["graph"]), bool(job["stream"])
    files = [Path(job["directory"]) / path for path in job["files"] if Path(path).name not in LIBRARIES]
    modules = read_verilog(files)
    if job["op"] == TOP:
        return check_top(graph, read_instances(graph.name, modules[graph.name]), stream)
    circuits = {name: read_circuit(name, module) for name, module in modules.items()}
    shown = prove_op(graph, graph[job["op"]], circuits, stream, job["time_limit_s"])
    return shown | {"seconds": round(time.monotonic() - started, 3), "time_limit_s": job["time_limit_s"]}


def read_verilog(files: Sequence[Path]) -> dict[str, Any]:
    """Return module name -> what Yosys wrote of it as JSON, of all modules of some files.

    Yosys runs in this process, prints, and ends it if it cannot read a file.
    """
    from pyosys import libyosys

    design = libyosys.Design()
    with temporary() as scratch:
        path = scratch / "modules.json"
        read = [f"read_verilog {quoted(file)}" for file in files]
        for command in (*read, *READ, f"write_json {quoted(path)}"):
            libyosys.run_pass(command, design)
        modules: dict[str, Any] = json.loads(path.read_text())["modules"]
    return modules


def prove_op(
    graph: IntGraph, op: Op, modules: Mapping[str, Circuit], stream: bool, time_limit_s: float
) -> dict[str, Any]:
    """Return what can be shown of one op, as JSON types; `scope` may be "refuted"."""
    sources, name = graph.sources(op), f"{graph.name}_{op.name}"
    refuted = {"scope": "refuted", "difference": None, "depth": None}
    try:
        circuits, simulated = op_circuits(op, sources, modules, name, stream)
        depth = _depth(circuits)
    except (WiringError, ValueError) as error:
        return {**refuted, "reason": str(error)}
    deadline = time.monotonic() + time_limit_s
    total = Answer()
    for part in circuits:
        answer = prove_claim(part, deadline)
        if answer.difference is not None:
            module = part.circuit.name
            return {**refuted, "depth": depth, "module": module, **_example(module, answer.difference)}
        total.proved, total.exhaustive = total.proved + answer.proved, total.exhaustive + answer.exhaustive
        total.open, total.codes = total.open + answer.open, max(total.codes, answer.codes)
        total.means |= answer.means
        total.left |= answer.left
        total.lost_nothing &= answer.lost_nothing
    scope = TESTED if total.open else EXHAUSTIVE if total.exhaustive else PROVED
    equal = NOT_SHOWN if scope == TESTED else BY_EQUALITY
    return {
        "scope": scope,
        "codes": total.codes,
        "engine": _engine(total, time_limit_s),
        "overflow": BY_INTERVALS if total.lost_nothing else equal,
        "simulated": simulated,
        "depth": depth,
    }


def _engine(total: Answer, time_limit_s: float) -> str:
    if total.left:
        return "simulation; rows that multiply are not given to a solver"
    if total.open:
        return f"simulation; {bitwuzla_version()} found no answer in {time_limit_s:g} s"
    return " + ".join(bitwuzla_version() if name == BITWUZLA else name for name in sorted(total.means)) or "wires"


def _depth(circuits: Sequence[Claim]) -> int:
    """Return how many registers are on every way through some circuits, wires to each other being none.

    Raises:
        ValueError: two ways have different numbers.
    """
    depths = {
        part.circuit.depth(
            tuple(bit for bits in part.elements for bit in bits), tuple(bit for task in part.tasks for bit in task.y)
        )
        for part in circuits
    } - {None}
    if len(depths) > 1:
        raise ValueError(f"its positions take {', '.join(map(str, sorted(d for d in depths if d is not None)))} cycles")
    return next(iter(depths), None) or 0


def _example(module: str, difference: Difference) -> dict[str, Any]:
    nonzero = [(place, code) for place, code in enumerate(difference.inputs) if code]
    inputs = ", ".join(f"x[{place}] = {code}" for place, code in nonzero[:8]) or "inputs of 0"
    more = f" and {len(nonzero) - 8} more" if len(nonzero) > 8 else ""
    return {
        "reason": f"module '{module}' gives {difference.found} for {difference.expected} at output "
        f"{difference.output} for {inputs}{more}",
        "difference": asdict(difference),
    }
