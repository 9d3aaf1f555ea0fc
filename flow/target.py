"""Target: which hardware is generated, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flow.backends.base import find_backend
from flow.errors import SpecError, shown
from flow.field_types import hold_types
from flow.part_names import canonical
from flow.toml_table import Table

IO_TYPES = ("io_parallel", "io_stream")
STRATEGIES = ("Latency", "Resource")
MOST_REUSE = 1 << 31
"""Above any: vendors' tools read them as `int`."""
PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Back end and its settings, in hls4ml's words.

    Attributes:
        backend: one of `BACKENDS`.
        io_type: "io_parallel" (arrays) or "io_stream" (FIFOs); without it io_parallel, and for back end rtl what
            `for_windows` chooses.
        strategy: "Latency" (weights are constants) or "Resource" (weights are stored and read); without it the first
            of these that the back end has.
        reuse_factor: how many products share one multiplier or shifter.
        reuse_factors: (op name, factor) for ops that differ from that. With strategy Resource a factor must divide an
            op's products as hls4ml asks; `flow build` lists the legal ones when it does not.
        reuse_nearest: whether an op that cannot have `reuse_factor` takes the nearest one that it can.
        part: FPGA part; without it the one that hls4ml takes for the back end.
        clock_period_ns: target clock period, nanoseconds.

    Raises:
        SpecError: a value is not one of those.
    """

    backend: str = "Vitis"
    io_type: str = ""
    strategy: str = ""
    reuse_factor: int = 1
    reuse_factors: tuple[tuple[str, int], ...] = ()
    reuse_nearest: bool = False
    part: str = ""
    clock_period_ns: float = 5.0

    def __post_init__(self) -> None:
        hold_types(self)
        own = find_backend(self.backend)
        object.__setattr__(self, "part", canonical(self.part) or own.part)
        object.__setattr__(self, "io_type", self.io_type or own.io_type)
        object.__setattr__(self, "strategy", self.strategy or own.strategies[0])
        for name, value, accepted in (
            ("io_type", self.io_type or IO_TYPES[0], IO_TYPES),
            ("strategy", self.strategy, STRATEGIES),
        ):
            if value not in accepted:
                use = f"use one of {', '.join(accepted)}"
                raise SpecError(f"{name} {shown(value)} is not known", field="target", remedy=use)
        if self.strategy not in own.strategies:
            what = f"back end {self.backend} has no strategy {shown(self.strategy)}"
            raise SpecError(what, field="target", remedy=f"use {' or '.join(own.strategies)}")
        if not PART_NAME.fullmatch(self.part):
            raise SpecError(
                f"part {shown(self.part)} is no part number (letters, digits, '.', '_' and '-')", field="target"
            )
        for factor in (self.reuse_factor, *(factor for _, factor in self.reuse_factors)):
            if not 1 <= factor < MOST_REUSE:
                raise SpecError(f"reuse_factor {shown(factor)} is not within 1 to {MOST_REUSE - 1}", field="target")
        if not own.takes_reuse and (self.reuse_factor, self.reuse_factors) != (1, ()):
            what = f"back end {self.backend} has a circuit of its own for every product"
            raise SpecError(what, field="target", remedy="leave the reuse factor 1")
        if not 0.5 <= self.clock_period_ns <= 1000:
            raise SpecError(f"clock_period_ns {self.clock_period_ns} is outside 0.5 to 1000 ns", field="target")

    def for_windows(self, windows: bool) -> Target:
        """Return the target with an io_type: a stream for graphs that slide `windows` over images."""
        return self if self.io_type else replace(self, io_type=IO_TYPES[int(windows)])

    @property
    def streams(self) -> bool:
        """Whether positions follow one another through the same hardware."""
        return self.io_type == "io_stream"

    @property
    def simulation(self) -> str:
        """The level of check that runs its projects: "csim" or "rtlsim"."""
        return find_backend(self.backend).simulation

    @property
    def clock_uncertainty(self) -> float | None:
        """The share of the clock period that its tool is told to set aside; None if it is told nothing."""
        return find_backend(self.backend).clock_uncertainty

    def reuse(self, op: str) -> int:
        """Return the reuse factor of an op."""
        return dict(self.reuse_factors).get(op, self.reuse_factor)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types: of one whose reuse factors are settled, so never `reuse_nearest`."""
        fields = {**asdict(self), "reuse_factors": dict(self.reuse_factors)}
        del fields["reuse_nearest"]
        return fields

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        """Return the target that `to_json` wrote.

        Raises:
            SpecError: a value is missing, unknown or of another kind.
        """
        table = Table(data, "target")
        factors = table.table("reuse_factors")
        own = tuple((op, factors.integer(op, 1, 1 << 31)) for op in factors.data)
        texts = dict.fromkeys(("backend", "io_type", "strategy", "part"), str)
        return cls(reuse_factors=own, **table.optional({**texts, "reuse_factor": int, "clock_period_ns": float}))
