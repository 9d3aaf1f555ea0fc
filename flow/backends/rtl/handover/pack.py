"""AXI-Stream of a width that is asked for: `tdata` holds as many elements as fit, whole pixels where several fit.

Around a top stand registers that collect narrow words or split wide ones. A sample begins with a beat of its own;
what its last beat has no elements for is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flow.backends.rtl.handover.bench import StreamTop, stream_interface
from flow.backends.rtl.handover.interface import ROOM, Interface, Net
from flow.backends.rtl.handover.ports import Port
from flow.backends.rtl.verilog.printer import declare, instance, module, port
from flow.backends.templating import filled
from flow.errors import SpecError, UnsupportedError, shown

LEAST, MOST = 8, 4096
"""Bits of `tdata`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """A port of a top and what stands around it.

    Attributes:
        inner: the port of the net.
        outer: the port of the new top.
        words: narrow words side by side in a wide one.
    """

    inner: Port
    outer: Port
    words: int

    @property
    def is_split(self) -> bool:
        """Whether a beat of the net has more than one beat outside, or one in any case."""
        return self.outer.elements < self.inner.elements

    @property
    def cycles(self) -> int:
        """By how much it delays a sample, and how far apart two samples are at least."""
        return self.words if self.is_split else 1


def packed_interface(net: Net, tdata_bits: int) -> Interface:
    """Return the net's ports with `tdata` of so many bits; arguments and errors as of `packed`."""
    return stream_interface(packed(net, tdata_bits))


def packed(net: Net, tdata_bits: int) -> StreamTop:
    """Return a top around a net whose ports have `tdata` of so many bits.

    Raises:
        SpecError: `tdata_bits` is out of range.
        UnsupportedError: an element, or a pixel of a stream, has more bits.
    """
    if not LEAST <= tdata_bits <= MOST or tdata_bits % 8:
        raise SpecError(f"tdata_bits is {shown(tdata_bits)}", remedy=f"expected whole bytes, {LEAST} to {MOST} bits")
    packings = [_packing(stream, tdata_bits) for stream in net.streams]
    given, taken = ([each.cycles for each in packings if each.inner.is_input == side] for side in (True, False))
    latency = net.latency + max(given)
    top = f"{net.graph.name}_packed"
    rtl = {
        "rtl/po2flow_pack.v": filled(ROOM, "po2flow_pack.v", {}),
        f"rtl/{top}.v": _top(top, net.graph.name, packings),
    }
    timed = replace(net, latency=latency + max(taken), interval=max(net.interval, *given, *taken))
    # the output of most beats sets the pace; others may leave a cycle earlier or later
    pace = [each.outer.name for each in packings if not each.inner.is_input and each.cycles == max(taken)]
    return StreamTop(
        net=timed,
        name=top,
        streams=[each.outer for each in packings],
        rtl=rtl,
        least_latency=latency + min(taken),
        pace=pace,
    )


def _packing(stream: Port, tdata_bits: int) -> Packing:
    op, fit = stream.op, tdata_bits // stream.op.format.width
    where = f"port '{stream.name}' ('{op.name}')"
    if fit == 0:
        what = f"{where}: an element has {op.format.width} bits, and tdata {tdata_bits}"
        raise UnsupportedError(what, remedy=f"use --tdata-bits {-(-op.format.width // 8) * 8} or more")
    if fit < stream.elements and stream.beats > 1:
        what = f"{where}: a pixel has {stream.used_bits} bits, and tdata {tdata_bits}"
        raise UnsupportedError(what, remedy=f"use --tdata-bits {stream.bits} or more")
    if fit < stream.elements:
        words, elements = -(-stream.elements // fit), fit
        beats = words
    else:
        words = min(fit // stream.elements, stream.beats)
        elements, beats = words * stream.elements, -(-stream.beats // words)
    outer = replace(stream, beats=beats, used_bits=elements * op.format.width, tdata_bits=tdata_bits)
    return Packing(inner=stream, outer=outer, words=words)


def _top(top: str, inner: str, packings: Sequence[Packing]) -> str:
    ports, body = [port("input", "aclk"), port("input", "aresetn")], ""
    connected = [{"aclk": "aclk", "aresetn": "aresetn"}]
    for each in packings:
        ports += [port("input" if read else "output", signal, width) for signal, read, width in each.outer.signals]
        body += _converter(each)
        connected.append({signal: f"net_{signal}" for signal, _, _ in each.inner.signals})
    return module(top, ports, body + instance(inner, "net", *connected, framed=True))


def _converter(packing: Packing) -> str:
    """Return what stands between a port and that of the net."""
    inner, outer, name = packing.inner, packing.outer, packing.outer.name
    width = (outer if packing.is_split else inner).used_bits
    count = packing.words if packing.is_split else inner.beats
    collects = packing.is_split == inner.is_input
    body = declare(f"net_{name}_tdata", width=inner.bits) + declare(
        *(f"net_{name}_{p}" for p in ("tvalid", "tready", "tlast"))
    )
    given, left = (width, width * packing.words) if collects else (width * packing.words, width)
    source, sink = (name, f"net_{name}") if inner.is_input else (f"net_{name}", name)
    source_bits, sink_bits = (outer.bits, inner.bits) if inner.is_input else (inner.bits, outer.bits)
    data = _sized(f"{source}_tdata", source_bits, given)
    body += declare(f"{name}_x", width=given, value=data) + declare(f"{name}_y", width=left)
    body += f"    assign {sink}_tdata = {_sized(f'{name}_y', left, sink_bits)};\n"
    x = {"x_data": f"{name}_x", "x_valid": f"{source}_tvalid", "x_ready": f"{source}_tready"}
    y = {"y_data": f"{name}_y", "y_valid": f"{sink}_tvalid", "y_ready": f"{sink}_tready", "y_last": f"{sink}_tlast"}
    settings = {"WIDTH": width, "WORDS": packing.words, "COUNT": count}
    kind = "po2flow_widen" if collects else "po2flow_narrow"
    clock = {"clk": "aclk", "rst": "~aresetn"}
    return body + instance(kind, f"{name}_packing", clock, x, y, parameters=settings)


def _sized(name: str, bits: int, wanted: int) -> str:
    """Return the low bits of a signal, or zeros above it."""
    if wanted > bits:
        return f"{{{wanted - bits}'d0, {name}}}"
    return name if wanted == bits else f"{name}[{wanted - 1}:0]"
