"""What the stages report: comparison and resources; every field names its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimResult:
    """Codes of every op for every sample.

    Attributes:
        level: "reference", "csim" or "qkeras".
        codes: op name -> integers (samples, *op.shape).
        arithmetic: how it was computed, for example "float32" (exact by proof) or "int64".
        run_s: seconds.
        softmax: of level "qkeras": name of each Softmax op -> (samples, *op.shape) float32, which no integer equals.
    """

    level: str
    codes: Mapping[str, NDArray[np.int64]]
    arithmetic: str = "integer"
    run_s: float = 0.0
    softmax: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Divergence:
    """The first place where two levels differ.

    Attributes:
        op: name of the first diverging op.
        levels: the two levels compared, for example ("reference", "csim").
        sample: index into the inputs.
        index: position in the op's output.
        codes: the two codes there.
        cause: what explains the codes, in words.
        nonzero_inputs: non-zero input codes of the counterexample.
        counterexample: input codes, shape of the input, as few non-zeros as were found.
    """

    op: str
    levels: tuple[str, str]
    sample: int
    index: tuple[int, ...]
    codes: tuple[int, int]
    cause: str
    nonzero_inputs: int
    counterexample: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return `verdict.first_divergence` of the report's JSON; the counterexample is a file of its own."""
        said = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "counterexample"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where the true count of an estimate lies, for about nine of ten designs like it.

    Attributes:
        low, high: the ends, both possible; None where nothing was measured that says so.
        basis: what says so, for people: "within 12 % for 9 of 10 such designs; 43 designs", "no truth for this kind".
        designs: measured designs of the same group behind it; 0 for none.
    """

    low: int | None
    high: int | None
    basis: str
    designs: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a value of `intervals` in the report's JSON."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of a design, or of one op of it. `None` means the source does not say, never zero.

    Attributes:
        name: op name, or the model's for a total.
        lut, ff, dsp, bram_18k, uram: counts.
        latency_cycles: first input to last output.
        initiation_interval_cycles: cycles between two inputs.
        detail: further counts of the source (multipliers, adders, adder_bits, shifts, weight_bits, ...).
        intervals: of an estimate: field -> where the true count lies.
    """

    name: str
    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram_18k: int | None = None
    uram: int | None = None
    latency_cycles: int | None = None
    initiation_interval_cycles: int | None = None
    detail: Mapping[str, int] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return an entry of `resources[].layers` in the report's JSON."""
        said = {item.name: getattr(self, item.name) for item in fields(self)}
        detail, intervals = dict(said.pop("detail")), said.pop("intervals")
        stated = {name: interval.to_json() for name, interval in intervals.items()}
        return {**said, **({"detail": detail} if detail else {}), **({"intervals": stated} if stated else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReport:
    """What one inference takes by one source; figures of two sources never share a report.

    Attributes:
        source: "static" (what the ops compute, times published energies), ...
        unit: "pJ", ...
        per_inference: all ops together, in that unit.
        table: the document that says how it was found.
        layers: op name -> the same, per op.
        alternatives: the same ops in other arithmetic; empty if the source does not know.
        detail: counts behind the figure.
    """

    source: str
    unit: str
    per_inference: float
    table: str
    layers: Mapping[str, float]
    alternatives: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of `energy` in the report's JSON."""
        layers = [{"name": name, "per_inference": value} for name, value in self.layers.items()]
        said = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**said, "layers": layers, "alternatives": dict(self.alternatives), "detail": dict(self.detail)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceReport:
    """Resources from one source; figures of two sources never share a report.

    Attributes:
        source: "static" (an estimate of the hardware), "static_csynth" (of what the HLS report will say), "csynth",
            "vivado", ...
        tool: the tool and version that said so, or the document of the model behind an estimate.
        part: FPGA part, if known.
        clock_period_ns: target clock period, if known.
        estimated_clock_period_ns: what the source expects to reach, if it says.
        total: the whole design.
        layers: per op or module, in the source's words.
        capacity: what the part has, same keys as the counts; empty if unknown.
        command: the script that the tool ran for the total, if it is one that can be run again.
        family: the family of parts that the tool was asked for, if it was asked for one.
        predicts: of an estimate: the source whose figures it foretells, "csynth", "vivado" or "yosys".
        critical_path: of an estimate: "op", "nodes" (as the Verilog calls them) and "delay_ns" of the longest
            path from register to register; empty if it does not say.
        calibration: of an estimate that a user's own measurements scaled: "file", "group", how many "runs", "factors".
        top: the module or function that a vendor's tool says it built, if it says.
        error: of an estimate: "lut", "ff" -> how far it is off, in percent ("mean", "p95", "worst") and by what
            factor in the median ("median_ratio"), over how many "modules"; "against" -> what it was held against.
    """

    source: str
    tool: str
    part: str | None = None
    clock_period_ns: float | None = None
    estimated_clock_period_ns: float | None = None
    total: Resources
    layers: tuple[Resources, ...] = ()
    capacity: Mapping[str, int] = field(default_factory=dict)
    command: str | None = None
    family: str | None = None
    predicts: str | None = None
    critical_path: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    top: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the entry of `resources` in the report's JSON."""
        total = self.total.to_json()
        total.pop("name")
        return {
            "source": self.source,
            "tool": self.tool,
            "part": self.part,
            "clock_period_ns": self.clock_period_ns,
            "estimated_clock_period_ns": self.estimated_clock_period_ns,
            **total,
            "capacity": dict(self.capacity),
            **({"command": self.command} if self.command is not None else {}),
            **({"family": self.family} if self.family is not None else {}),
            **({"predicts": self.predicts} if self.predicts is not None else {}),
            **({"critical_path": dict(self.critical_path)} if self.critical_path else {}),
            **({"calibration": dict(self.calibration)} if self.calibration else {}),
            **({"error": dict(self.error)} if self.error else {}),
            **({"top": self.top} if self.top is not None else {}),
            "layers": [layer.to_json() for layer in self.layers],
        }
