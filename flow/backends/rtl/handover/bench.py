"""The test bench of a hand-over: vectors, plain SystemVerilog for Icarus and Verilator, cocotb, and the Makefile.

One simulation plays the samples several times: steadily, when latency and interval are measured; with random pauses at
every port; and again after resets in cycles that are drawn. Each time every beat that leaves is held against the
expected one, as it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flow.backends.rtl.handover.interface import ROOM, Interface, Net, stream_words
from flow.backends.rtl.handover.ports import Port
from flow.backends.rtl.verilog.printer import assign
from flow.backends.rtl.verilog.stages import leading_padding
from flow.backends.templating import filled
from flow.ir.fixed import Codes

RESETS = 8
"""How often the bench begins, resets after a random time, and begins again."""
PATIENCE_CYCLES = 10_000
"""Cycles without a beat at any port after which the bench gives up, besides ten intervals."""
SIGNALS = (
    "Each stream has `_tdata`, `_tvalid`, `_tready` and `_tlast` (AXI4-Stream). An input's `tlast` is not read, since\n"
    "shapes are fixed; an output's marks the last beat of a sample."
)
WAITING = (
    "a port that waits (`tready` low) stops the net once what lies between is full. Nothing is lost, and `tdata` and\n"
    "  `tvalid` stay until they are taken"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamTop:
    """A top whose ports are AXI4-Stream.

    Attributes:
        net: what is in it; latency and interval are those of the top.
        name: of the module.
        streams: its ports.
        rtl: path -> text of what stands around the net.
        least_latency: its latency may be less than that of `net`; None: it may not.
        pace: outputs whose interval is that of `net`; None: all.
        batches: whether `tlast` ends a batch of samples, in and out, and not each sample.
    """

    net: Net
    name: str
    streams: Sequence[Port]
    rtl: Mapping[str, str] = field(default_factory=dict)
    least_latency: int | None = None
    pace: Sequence[str] | None = None
    batches: bool = False


def axis_interface(net: Net) -> Interface:
    """Return the net's own ports."""
    return stream_interface(StreamTop(net=net, name=net.graph.name, streams=net.streams))


def stream_interface(top: StreamTop) -> Interface:
    """Return the interface of a top, with a bench of SystemVerilog and one of cocotb."""
    return Interface(
        top=top.name,
        title="AXI4-Stream",
        ports=top.streams,
        rtl=top.rtl,
        bench={
            **vectors(top.streams, top.net.codes),
            "bench/streams.sv": filled(ROOM, "streams.sv", {}),
            f"bench/{top.name}_bench.sv": _bench(top),
            **cocotb_bench(top.name, top.streams, top.net),
        },
        benches=f"streams.sv {top.name}_bench.sv",
        readme=stream_words(top.net, top.streams) | {"SIGNALS": SIGNALS, "WAITING": WAITING},
    )


def vectors(ports: Sequence[Port], codes: Mapping[str, Codes]) -> dict[str, str]:
    """Return the beats of all ports, as `$readmemh` takes them."""
    return {f"bench/vectors/{port.name}.hex": _hex(port, codes[port.op.name]) for port in ports}


def cocotb_bench(name: str, ports: Sequence[Port], net: Net) -> dict[str, str]:
    """Return the bench of streams for cocotb."""
    rows = [(port.is_input, f'    "{port.name}": ({port.bits // 8}, {port.beats}),\n') for port in ports]
    sides = {
        side: "".join(row for is_input, row in rows if is_input == read)
        for side, read in (("INPUTS", True), ("OUTPUTS", False))
    }
    words = {"TOP": name, "PERIOD_PS": period_ps(net), **sides}
    return {"bench/cocotb_bench.py": filled(ROOM, "cocotb_bench.py", words)}


def period_ps(net: Net) -> int:
    """Return the clock period for cocotb, an even number."""
    return max(2, round(net.target.clock_period_ns * 500) * 2)


def _hex(port: Port, codes: Codes) -> str:
    """Return beats as `$readmemh` takes them, one a line."""
    return "".join(f"{beat:0{port.bits // 4}x}\n" for beat in port.packed(codes))


def _bench(top: StreamTop) -> str:
    net, ports = top.net, top.streams
    latency, interval, samples = net.latency, net.interval, net.samples
    settle = leading_padding(net.graph) if net.target.streams else 0
    ends = "\n".join(_end(port, samples, top.batches) for port in ports)
    wires = ",\n        ".join(f".{signal}({signal})" for port in ports for signal, _, _ in port.signals)
    inputs, outputs = ([port.name for port in ports if port.is_input == side] for side in (True, False))
    pace = outputs if top.pace is None else top.pace
    words = {
        "TOP": top.name,
        "HALF_PERIOD": f"{net.target.clock_period_ns / 2:.3f}",
        "LATENCY": str(latency),
        "LEAST": str(top.least_latency or latency),
        "INTERVAL": str(interval),
        "SAMPLES": str(samples),
        "SETTLE": str(settle + 4),
        "PATIENCE": str(PATIENCE_CYCLES + 10 * (latency + interval)),
        "RESETS": str(RESETS),
        "BATCH": f"pauses ? $urandom_range(1, 3) : {samples}" if top.batches else "1",
        "ENDS": ends,
        "WIRES": wires,
        "DONE": " && ".join(f"{port}_taken == {_beats(ports, port, samples)}" for port in outputs),
        "PASSED": " + ".join([*(f"{port}_entered" for port in inputs), *(f"{port}_taken" for port in outputs)]),
        "ERRORS": " + ".join(f"{port}_errors" for port in (*inputs, *outputs)),
        "FIRST_IN": _extreme("<", [f"{port}_entered_at" for port in inputs]),
        "LAST_OUT": _extreme(">", [f"{port}_first_at" for port in outputs]),
        "MEASURED_INTERVAL": _extreme(">", [f"{port}_interval" for port in pace]),
    }
    return filled(ROOM, "bench.sv", words)


def _beats(ports: Sequence[Port], name: str, samples: int) -> int:
    return next(port.beats for port in ports if port.name == name) * samples


def _extreme(relation: str, values: Sequence[str]) -> str:
    """Return the smallest or largest of some signals as an expression."""
    first, *rest = values
    if not rest:
        return first
    other = _extreme(relation, rest)
    return f"({first} {relation} {other} ? {first} : {other})"


def _end(port: Port, samples: int, batches: bool) -> str:
    """Return the wires of a port and what stands at its other end; `batch` of the bench says where `tlast` is."""
    signals = "".join(
        f"    wire {f'[{width - 1}:0] ' if width else ''}{signal};\n" for signal, _, width in port.signals
    )
    given = [f".{part}({port.name}_{part})" for part in ("tdata", "tvalid", "tready")]
    settings = [f".BITS({port.bits})", f".BEATS({port.beats * samples})", f'.FILE("vectors/{port.name}.hex")']
    told: tuple[str, ...]
    if port.is_input:
        kind, told = "po2flow_source", ("entered", "entered_at", "errors")
        last = f"{port.name}_tvalid ? ({port.name}_entered + 1) % (batch * {port.beats}) == 0 : 1'bx"
        signals += assign(f"{port.name}_tlast", last if batches else "1'b0")
    else:
        kind, told = "po2flow_sink", ("taken", "first_at", "interval", "errors")
        given += [f".tlast({port.name}_tlast)", f".per_batch(batch * {port.beats})"]
        settings.append(f".PER_SAMPLE({port.beats})")
    signals += f"    wire [31:0] {', '.join(f'{port.name}_{what}' for what in told)};\n"
    given += [f".{what}({port.name}_{what})" for what in told]
    listed = ", ".join(given)
    return (
        f"{signals}    {kind} #({', '.join(settings)}) {port.name}_end (\n"
        f"        .clk(aclk), .run(run), .stalls(stalls), .cycle(cycle), {listed});\n"
    )
