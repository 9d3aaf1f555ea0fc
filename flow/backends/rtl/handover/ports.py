"""The streams of a top module: what each is called, how wide it is, and how codes become its beats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flow.backends.rtl.verilog.emit import axis_port
from flow.backends.rtl.verilog.op_modules import tensor_bits, word_bits, words
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op


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
    """

    name: str
    is_input: bool
    op: Op
    beats: int
    used_bits: int
    waits: bool = True

    @property
    def bits(self) -> int:
        """Bits of `tdata`, whole bytes."""
        return -(-self.used_bits // 8) * 8

    @property
    def elements(self) -> int:
        """Codes of one beat."""
        return self.used_bits // self.op.format.width

    @property
    def signals(self) -> tuple[tuple[str, bool, int | None], ...]:
        """Its signals: name, whether the top reads it, and width, None for a single bit."""
        data = (f"{self.name}_tdata", self.is_input, self.bits)
        valid, ready, last = (f"{self.name}_{part}" for part in ("tvalid", "tready", "tlast"))
        further = ((ready, not self.is_input, None), (last, self.is_input, None)) if self.waits else ()
        return (data, (valid, self.is_input, None), *further)

    def packed(self, codes: Codes) -> Iterator[int]:
        """Yield the beats of samples of the op's codes; the first code of a beat is lowest."""
        width, rows = self.op.format.width, codes.reshape(-1, self.elements)
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
