"""What stands at the ports of a hand-over, and all that depends on it: a top, its bench, and how to speak with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flow.backends.rtl.handover.ports import Port, TopPort, ports
from flow.errors import counted
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import IntGraph
from flow.target import Target

ROOM = "flow.backends.rtl.handover"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Net:
    """What is handed over.

    Attributes:
        graph: the net.
        target: what its project was made for.
        codes: op of each port -> codes (samples, *shape) that pass it.
        latency, interval: in cycles.
        number: the first 32 bits of a digest of its Verilog.
    """

    graph: IntGraph
    target: Target
    codes: Mapping[str, Codes]
    latency: int
    interval: int
    number: int

    @property
    def samples(self) -> int:
        """How many samples the codes are of."""
        return len(next(iter(self.codes.values())))

    @property
    def streams(self) -> tuple[Port, ...]:
        """The AXI-Stream ports of its top, inputs first."""
        return ports(self.graph, self.target.io_type)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interface:
    """An interface of a hand-over.

    Attributes:
        top: the top module.
        title: what its ports are, in a few words.
        ports: all but clock and reset.
        registers: behind the first port: name, first word, words, whether they are only read.
        rtl: path -> text of Verilog that stands around the net.
        bench: path -> text of bench, vectors and software, and of scripts for a board.
        benches: files of the bench for simulators, in `bench/`.
        readme: words of README.md that tell of ports and timing: ROWS, SIGNALS, ORDERS, LATENCY, INTERVAL, WAITING.
    """

    top: str
    title: str
    ports: Sequence[TopPort]
    registers: Sequence[tuple[str, int, int, bool]] = ()
    rtl: Mapping[str, str] = field(default_factory=dict)
    bench: Mapping[str, str]
    benches: str
    readme: Mapping[str, str]


def stream_words(net: Net, streams: Sequence[Port]) -> dict[str, str]:
    """Return the words of README.md that tell of streams."""
    return {
        "ROWS": "".join(_row(port) for port in streams),
        "ORDERS": "".join(f"- `{port.name}`: {_order(port, net.target.io_type)}\n" for port in streams)
        + "\nElement 0 is lowest; the bits above those used are zero in outputs and not read in inputs.\n",
        "LATENCY": f"{counted(net.latency, 'cycle')}, from the first beat of a sample to the last beat of its result",
        "INTERVAL": counted(net.interval, "cycle"),
    }


def described(fmt: FixedFormat) -> str:
    """Return a format in words."""
    return f"{'signed' if fmt.signed else 'unsigned'} {fmt.width} bits, {fmt.frac_bits} of them fraction"


def _row(port: Port) -> str:
    way = "input" if port.is_input else "output"
    what = f"{way} `{port.op.name}`, {counted(port.elements, 'element')} of {described(port.op.format)}"
    return f"| `{port.name}` | {port.bits} | {port.used_bits} | {port.beats} | {what} |\n"


def _order(port: Port, io_type: str) -> str:
    shape, width = " x ".join(map(str, port.op.shape)), port.op.format.width
    if port.tdata_bits:
        what = f"{port.elements} elements a beat, and in the last beat of a sample what is left, above it zeros"
        return f"{shape}, the last index runs fastest; {what}; element i of a beat at bits [{width}i +: {width}]"
    if io_type == "io_stream" and port.beats > 1:
        return f"{shape}, a beat is a pixel, row by row; channel c at bits [{width}c +: {width}]"
    return f"{shape}, one beat; the last index runs fastest; element i at bits [{width}i +: {width}]"
