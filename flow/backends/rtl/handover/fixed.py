"""The interface of triggers: data and valid in, data and valid out a fixed number of cycles later; nothing ever waits.

It is a top of its own around the pipeline of an `io_parallel` project, whose readers are always ready. So its registers
always advance, and synthesis leaves their enable away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flow.backends.rtl.handover.bench import cocotb_bench, vectors
from flow.backends.rtl.handover.interface import ROOM, Interface, Net, stream_words
from flow.backends.rtl.handover.ports import Port
from flow.backends.rtl.verilog.printer import assign, declare, instance, module, port
from flow.backends.templating import filled
from flow.errors import UnsupportedError

CYCLES = 100_000
"""What the bench looks at: `tvalid` and `tdata` in every cycle."""


SIGNALS = (
    "Each stream has `_tdata` and `_tvalid` alone: AXI4-Stream without back-pressure. All inputs of a sample\n"
    "are valid in the same cycle."
)
WAITING = "nothing waits: a result is valid exactly so many cycles after its sample, for one cycle"


def fixed_interface(net: Net) -> Interface:
    """Return the ports without `tready` and `tlast`.

    Raises:
        UnsupportedError: the project is a stream, whose latency depends on what waits.
    """
    if net.target.streams:
        what = "the interface 'fixed' has a sample in every cycle, and a stream has not"
        raise UnsupportedError(what, remedy="build the model with --io-type io_parallel")
    streams, top = tuple(replace(each, waits=False) for each in net.streams), f"{net.graph.name}_fixed"
    return Interface(
        top=top,
        title="AXI4-Stream without back-pressure",
        ports=streams,
        rtl={f"rtl/{top}.v": fixed_top(net.graph.name, net.streams)},
        bench=_bench(top, streams, net) | cocotb_bench(top, streams, net),
        benches=f"{top}_bench.sv",
        readme=stream_words(net, streams) | {"SIGNALS": SIGNALS, "WAITING": WAITING},
    )


def fixed_top(name: str, streams: Sequence[Port]) -> str:
    """Return the module `<name>_fixed` around a top, given the ports of that."""
    ports, connected, body = [port("input", "aclk"), port("input", "aresetn")], list[str](), ""
    tied = dict[str, str]()
    for stream in streams:
        outer = {signal for signal, _, _ in replace(stream, waits=False).signals}
        for signal, read, width in stream.signals:
            if signal in outer:
                ports.append(port("input" if read else "output", signal, width))
                connected.append(signal)
            elif read:
                tied[signal] = "1'b0" if stream.is_input else "1'b1"  # no last word; always ready
            else:
                body += declare(signal)
                connected.append(signal)
    lines = [{signal: signal for signal in connected if signal.startswith(stream.name)} for stream in streams]
    body += instance(name, "net", {"aclk": "aclk", "aresetn": "aresetn"}, *lines, tied, framed=True)
    return module(f"{name}_fixed", ports, body)


def _bench(name: str, streams: Sequence[Port], net: Net) -> dict[str, str]:
    """Return vectors and bench, which holds what leaves in a cycle against what entered `latency` cycles before."""
    inputs, outputs = ([each for each in streams if each.is_input == side] for side in (True, False))
    memories, given, checks = "", "", ""
    samples = net.samples
    for each in streams:
        memories += f"    reg [{each.bits - 1}:0] {each.name}_beats [0:{samples - 1}];\n"
        memories += f'    initial $readmemh("vectors/{each.name}.hex", {each.name}_beats);\n'
        memories += f"    wire [{each.bits - 1}:0] {each.name}_tdata;\n" + declare(f"{each.name}_tvalid")
    for each in inputs:
        given += assign(f"{each.name}_tvalid", "valid")
        given += assign(f"{each.name}_tdata", f"valid ? {each.name}_beats[sample] : {{{each.bits}{{1'bx}}}}")
    for each in outputs:
        wrong = f"{each.name}_tvalid !== due || (due && {each.name}_tdata !== {each.name}_beats[due_sample])"
        checks += f'            if ({wrong}) complain("{each.name}");\n'
    words = {
        "TOP": name,
        "HALF_PERIOD": f"{net.target.clock_period_ns / 2:.3f}",
        "LATENCY": net.latency,
        "SAMPLES": samples,
        "CYCLES": CYCLES,
        "MEMORIES": memories,
        "GIVEN": given,
        "CHECKS": checks,
        "WIRES": ", ".join(f".{signal}({signal})" for each in streams for signal, _, _ in each.signals),
    }
    return {**vectors(streams, net.codes), f"bench/{name}_bench.sv": filled(ROOM, "fixed_bench.sv", words)}
