"""AXI-Stream for DMA engines: `tlast` ends a transfer of many samples, in and out; and the driver that uses it.

Around the top whose beats are packed stand counters: the output that belongs to the input with `tlast` has it too. So a
transfer ends when the results of all its samples are there, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flow.backends.rtl.handover.bench import StreamTop, period_ps, stream_interface
from flow.backends.rtl.handover.block_design import board_files
from flow.backends.rtl.handover.boards import VivadoBoard
from flow.backends.rtl.handover.interface import ROOM, Interface, Net
from flow.backends.rtl.handover.pack import packed
from flow.backends.rtl.handover.ports import Port
from flow.backends.rtl.verilog.printer import assign, declare, instance, module, port
from flow.backends.templating import filled
from flow.errors import SpecError, UnsupportedError, shown

TRANSFER_BYTES = 1 << 20
"""The most of a transfer, but for one sample that is larger; an engine counts to 64 MiB, Linux gives about so much."""
LARGEST = (1 << 26) - 1
"""Bytes that an engine counts."""
SIGNALS = (
    "Each stream has `_tdata`, `_tvalid`, `_tready` and `_tlast` (AXI4-Stream), an output `_tkeep`, all ones. An\n"
    "input's `tlast` ends a batch, at the last beat of a sample; the last beat of that sample has it at each output.\n"
    "Where the net has several inputs, the first one's is read."
)


def dma_interface(net: Net, board: VivadoBoard, tdata_bits: int | None) -> Interface:
    """Return a top for the DMA engines of a board, with the driver.

    Args:
        tdata_bits: of the streams; None: those that the board has, or more if a pixel or an element needs them.

    Raises:
        SpecError: its engines have no such width.
        UnsupportedError: an element, or a pixel of a stream, has more bits than they; or there are too many streams.
    """
    bits = _width(net, board) if tdata_bits is None else tdata_bits
    if bits not in board.widths:
        listed = ", ".join(map(str, board.widths))
        raise SpecError(f"tdata_bits is {shown(bits)}", remedy=f"the engines of {board.name} have {listed}")
    inner = packed(net, bits)
    inputs, outputs = ([each for each in inner.streams if each.is_input == side] for side in (True, False))
    if max(len(inputs), len(outputs)) > board.channels:
        what = f"it has {len(inputs)} inputs and {len(outputs)} outputs, and {board.name} {board.channels} of each"
        raise UnsupportedError(what, remedy="use --interface axis, and a design of your own")
    sample = max(each.beats * each.bits // 8 for each in inner.streams)
    if sample > LARGEST:
        raise UnsupportedError(f"a sample has {sample} bytes, and a transfer {LARGEST}", remedy="use --interface axis")
    top = f"{net.graph.name}_dma"
    streams = [replace(each, keeps=not each.is_input) for each in inner.streams]
    rtl = {
        **inner.rtl,
        "rtl/po2flow_batch.v": filled(ROOM, "po2flow_batch.v", {}),
        f"rtl/{top}.v": _top(top, inner.name, inner.streams),
    }
    # the last result waits for the rest of its sample, also where the net does not read that
    timed = replace(inner.net, latency=max(inner.net.latency, inner.net.interval + 1))
    outer = replace(inner, net=timed, name=top, streams=streams, rtl=rtl, batches=True)
    made = stream_interface(outer)
    files = {
        **made.bench,
        **_software(outer, board, TRANSFER_BYTES // sample or 1),
        **board_files(top, streams, board, net.target),
    }
    return replace(made, bench=files, readme={**made.readme, "SIGNALS": SIGNALS})


def _width(net: Net, board: VivadoBoard) -> int:
    """Return the least width that a board has, from its usual one on, for pixels of streams and elements."""
    least = max(each.op.format.width if each.beats == 1 else each.used_bits for each in net.streams)
    fit = [bits for bits in board.widths if bits >= max(least, board.tdata_bits)]
    return fit[0] if fit else board.widths[-1]


def _top(top: str, inner: str, streams: Sequence[Port]) -> str:
    ports, body = [port("input", "aclk"), port("input", "aresetn")], declare("rst", value="~aresetn")
    first = next(each.name for each in streams if each.is_input)
    outputs = [each.name for each in streams if not each.is_input]
    body += declare("entered", "ending", width=32) + declare("ends", *(f"{name}_passed" for name in outputs))
    connected = [{"aclk": "aclk", "aresetn": "aresetn"}]
    for each in streams:
        name, counted = each.name, each.name == first or not each.is_input
        outer = replace(each, keeps=not each.is_input)
        ports += [port("input" if read else "output", signal, width) for signal, read, width in outer.signals]
        wires = {f"{name}_{part}": f"{name}_{part}" for part in ("tdata", "tvalid", "tready", "tlast")}
        if counted:
            body += declare(f"net_{name}_tvalid", f"net_{name}_tready")
            wires |= {f"{name}_{part}": f"net_{name}_{part}" for part in ("tvalid", "tready")}
        if each.is_input:
            wires[f"{name}_tlast"] = "1'b0"
        else:
            body += declare(f"net_{name}_tlast") + assign(f"{name}_tkeep", f"{{{each.bits // 8}{{1'b1}}}}")
            wires[f"{name}_tlast"] = f"net_{name}_tlast"
        connected.append(wires)
        body += _counter(each, outputs) if counted else ""
    return module(top, ports, body + instance(inner, "net", *connected, framed=True))


def _counter(stream: Port, outputs: Sequence[str]) -> str:
    """Return what counts the samples of the first input, or of an output."""
    name, clock, settings = stream.name, {"clk": "aclk", "rst": "rst"}, {"BEATS": stream.beats}
    outer, net = ({part: f"{prefix}{name}_t{part}" for part in ("valid", "ready", "last")} for prefix in ("", "net_"))
    given, taken = (outer, net) if stream.is_input else (net, outer)
    x = {f"x_{part}": given[part] for part in (("valid", "last", "ready") if stream.is_input else ("valid", "ready"))}
    y = {f"y_{part}": taken[part] for part in (("valid", "ready") if stream.is_input else ("valid", "last", "ready"))}
    passed = " & ".join(f"{each}_passed" for each in outputs) if stream.is_input else f"{name}_passed"
    end = {"entered": "entered", "ending": "ending", "ends": "ends", "passed": passed}
    kind = "po2flow_batch_in" if stream.is_input else "po2flow_batch_out"
    return instance(kind, f"{name}_batch", clock, x, y, end, parameters=settings, framed=True)


# ---------------------------------------------------------------------- software


def _software(top: StreamTop, board: VivadoBoard, batch: int) -> dict[str, str]:
    """Return the driver, and the bench of cocotb that runs it on simulated engines."""
    inputs, outputs = ([each for each in top.streams if each.is_input == side] for side in (True, False))
    words = {
        "TOP": top.name,
        "BOARD": board.title,
        "TENSORS": filled(ROOM, "driver_tensors.py", {}),
        "INPUTS": "".join(map(_tensor, inputs)),
        "OUTPUTS": "".join(map(_tensor, outputs)),
        "BATCH": batch,
        "IMPORTS": "import os\n" if board.card else "",
        "MORE_IMPORTS": "from concurrent.futures import ThreadPoolExecutor\n" if board.card else "",
        "ENGINES": filled(ROOM, "engines_xdma.py" if board.card else "engines_pynq.py", {"TOP": top.name}),
    }
    bench = {"TOP": top.name, "PERIOD_PS": period_ps(top.net)}
    return {
        "software/po2flow_driver.py": filled(ROOM, "dma_driver.py", words),
        "bench/cocotb_bench.py": filled(ROOM, "dma_cocotb_bench.py", bench),
    }


def _tensor(stream: Port) -> str:
    op, fmt = stream.op, stream.op.format
    beat = f"{stream.name!r}, {stream.beats}, {stream.elements}, {stream.bits // 8}".replace("'", '"')
    return f'    "{op.name}": Stream({op.shape}, {fmt.signed}, {fmt.width}, {fmt.frac_bits}, {beat}),\n'
