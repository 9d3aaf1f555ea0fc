"""Target: which hardware is generated, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flow.errors import SpecError

BACKENDS = ("Vitis", "Vivado")
IO_TYPES = ("io_parallel", "io_stream")
STRATEGIES = ("Latency", "Resource")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Back end and its settings, in hls4ml's words.

    Attributes:
        backend: "Vitis" or "Vivado".
        io_type: "io_parallel" (arrays) or "io_stream" (FIFOs).
        strategy: "Latency" (weights are constants) or "Resource" (weights are stored and read).
        reuse_factor: how many products share one multiplier or shifter; must divide every layer's products as hls4ml
            asks (`flow build` lists the legal ones when it does not).
        part: FPGA part.
        clock_period_ns: target clock period, nanoseconds.

    Raises:
        SpecError: a value is not one of those.
    """

    backend: str = "Vitis"
    io_type: str = "io_parallel"
    strategy: str = "Latency"
    reuse_factor: int = 1
    part: str = "xcvu13p-flga2577-2-e"
    clock_period_ns: float = 5.0

    def __post_init__(self) -> None:
        for name, value, accepted in (
            ("backend", self.backend, BACKENDS),
            ("io_type", self.io_type, IO_TYPES),
            ("strategy", self.strategy, STRATEGIES),
        ):
            if value not in accepted:
                raise SpecError(f"target: {name} {value!r} is not known; use one of {', '.join(accepted)}")
        if self.reuse_factor < 1:
            raise SpecError(f"target: reuse_factor {self.reuse_factor} is below 1")
        if not 0.5 <= self.clock_period_ns <= 1000:
            raise SpecError(f"target: clock_period_ns {self.clock_period_ns} is outside 0.5 to 1000 ns")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
