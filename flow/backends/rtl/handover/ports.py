"""The ports of a top module: what each is called, how wide it is, and how codes become the beats of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from flow.backends.rtl.verilog.emit import axis_port
from flow.backends.rtl.verilog.op_modules import tensor_bits, word_bits, words
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op

Signal = tuple[str, bool, int | None]
"""Name, whether the top reads it, and width, None for a single bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """A port as IP-XACT describes it.

    Attributes:
        kind: bus type of Vivado's catalogue.
        roles: logical signal of the bus type -> signal of the top.
        parameters: of the bus interface.
        is_master: whether the top begins its transfers.
    """

    kind: str
    roles: Mapping[str, str]
    parameters: Mapping[str, object] = field(default_factory=dict)
    is_master: bool = False


class TopPort(Protocol):
    """What constraints, scripts, VHDL and IP-XACT ask of a port."""

    @property
    def name(self) -> str:
        """Prefix of its signals, as "s_axis"."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Its signals in the order of the module's ports."""

    @property
    def bus(self) -> Bus:
        """Itself as IP-XACT describes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An AXI-Stream port of a top.

    Attributes:
        name: prefix of its signals, as "s_axis".
        is_input: whether the top reads it.
        op: the input or output of the graph that passes it.
        beats: beats of one sample.
        used_bits: bits of a beat that carry codes.
        waits: whether it has `tready` and `tlast`; else a beat passes in every cycle in which it is valid.
        tdata_bits: bits of `tdata`; None: whole bytes that hold `used_bits`.
        keeps: whether it has `tkeep`, always ones.
    """

    name: str
    is_input: bool
    op: Op
    beats: int
    used_bits: int
    waits: bool = True
    tdata_bits: int | None = None
    keeps: bool = False

    @property
    def bits(self) -> int:
        """Bits of `tdata`, whole bytes."""
        return self.tdata_bits or -(-self.used_bits // 8) * 8

    @property
    def elements(self) -> int:
        """Codes of one beat."""
        return self.used_bits // self.op.format.width

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Its signals: name, whether the top reads it, and width, None for a single bit."""
        data = (f"{self.name}_tdata", self.is_input, self.bits)
        valid, ready, last = (f"{self.name}_{part}" for part in ("tvalid", "tready", "tlast"))
        further = ((ready, not self.is_input, None), (last, self.is_input, None)) if self.waits else ()
        keep = ((f"{self.name}_tkeep", self.is_input, self.bits // 8),) if self.keeps else ()
        return (data, (valid, self.is_input, None), *further, *keep)

    @property
    def bus(self) -> Bus:
        """AXI4-Stream as IP-XACT describes it."""
        roles = {signal.rpartition("_")[2].upper(): signal for signal, _, _ in self.signals}
        return Bus(
            kind="axis", roles=roles, parameters={"TDATA_NUM_BYTES": self.bits // 8}, is_master=not self.is_input
        )

    def packed(self, codes: Codes) -> Iterator[int]:
        """Yield the beats of samples of the op's codes; the first code of a beat is lowest, a rest is zero."""
        width, flat = self.op.format.width, codes.reshape(len(codes), -1)
        rest = self.beats * self.elements - flat.shape[1]
        rows = np.pad(flat, ((0, 0), (0, rest))).reshape(-1, self.elements)
        size = -(-self.used_bits // 8)
        shifts = np.arange(width)
        for row in rows:
            bits = ((row[:, None].astype(np.int64) >> shifts) & 1).astype(np.uint8).reshape(-1)
            yield int.from_bytes(np.packbits(bits, bitorder="little").tobytes()[:size], "little")


def ports(graph: IntGraph, io_type: str) -> tuple[Port, ...]:
    """Return the ports of the top of a graph, inputs first."""
    streams = io_type == "io_stream"
    return tuple(
        Port(
            name=axis_port(graph, op, side),
            is_input=side == "s",
            op=op,
            beats=words(op.shape) if streams else 1,
            used_bits=word_bits(op) if streams else tensor_bits(op),
        )
        for side, ops in (("s", graph.inputs), ("m", [graph[name] for name in graph.outputs]))
        for op in ops
    )
