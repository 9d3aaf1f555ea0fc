"""Registers behind AXI4-Lite, for nets of few inputs: write the elements, start, wait until it is done, read.

    0x00 control   write 1: start, if the net is idle
    0x04 status    bit 0 idle, bit 1 done, bit 2 missed: there was a start that found the net busy
    0x08 version   of this map
    0x0C net       the first 32 bits of a digest of the net's Verilog
    0x40 ...       the elements of all inputs, then those of all outputs, each in a word, in two if wider than 32 bits

Between them stands the top without handshake (`fixed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow.backends.rtl.handover.bench import RESETS, period_ps
from flow.backends.rtl.handover.fixed import fixed_interface
from flow.backends.rtl.handover.interface import ROOM, Interface, Net, described
from flow.backends.rtl.handover.ports import Bus, Port, Signal
from flow.backends.rtl.verilog.printer import assign, declare, instance, module, port
from flow.backends.templating import filled
from flow.errors import UnsupportedError, counted
from flow.ir.fixed import Codes

VERSION = 1
"""Of the map of registers; another one means another map."""
FIRST, WORDS = 16, 1024
"""Word of the first element, and words of the map: 4 KiB, the least that an interconnect gives a slave."""
CONTROL = (("CONTROL", 0, False), ("STATUS", 1, True), ("VERSION", 2, True), ("NET", 3, True))
"""Name, word, whether it is only read."""
SIGNALS = (
    ("awaddr", True, 12), ("awprot", True, 3), ("awvalid", True, None), ("awready", False, None),
    ("wdata", True, 32), ("wstrb", True, 4), ("wvalid", True, None), ("wready", False, None),
    ("bresp", False, 2), ("bvalid", False, None), ("bready", True, None),
    ("araddr", True, 12), ("arprot", True, 3), ("arvalid", True, None), ("arready", False, None),
    ("rdata", False, 32), ("rresp", False, 2), ("rvalid", False, None), ("rready", True, None),
)  # fmt: skip
"""AXI4-Lite (ARM IHI 0022), as the slave has it."""
TOLD = """\
`s_axi` is AXI4-Lite, 32 bits. Bytes are written by their strobes. What is not in the map, or is
only read or only written, answers `SLVERR`. `software/` has the map for C (`{top}.h`) and Python
(`po2flow_driver.py`)."""
WAITING = "a start while the net is busy has no effect but bit 2 of the status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """The elements of an input or output.

    Attributes:
        stream: the port of the net that they pass.
        first: word of element 0.
    """

    stream: Port
    first: int

    @property
    def words(self) -> int:
        """Words of an element."""
        return -(-self.stream.op.format.width // 32)

    @property
    def end(self) -> int:
        """The word behind the last element."""
        return self.first + self.stream.elements * self.words

    def packed(self, codes: Codes) -> Codes:
        """Return what is written or read for each sample: (samples, words)."""
        flat = codes.reshape(len(codes), -1, 1).astype(np.int64)
        return ((flat >> np.minimum(32 * np.arange(self.words), 63)) & 0xFFFFFFFF).reshape(len(codes), -1)


@dataclass(frozen=True, slots=True)
class LitePort:
    """The AXI4-Lite port of a top."""

    name: str = "s_axi"

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Its signals: name, whether the top reads it, and width, None for a single bit."""
        return tuple((f"{self.name}_{signal}", read, width) for signal, read, width in SIGNALS)

    @property
    def bus(self) -> Bus:
        """AXI4-Lite as IP-XACT describes it."""
        roles = {signal.upper(): f"{self.name}_{signal}" for signal, _, _ in SIGNALS}
        return Bus(kind="aximm", roles=roles, parameters={"PROTOCOL": "AXI4LITE", "DATA_WIDTH": 32, "ADDR_WIDTH": 12})


def axilite_interface(net: Net) -> Interface:
    """Return a top with registers.

    Raises:
        UnsupportedError: the project is a stream, or has more elements than the map.
    """
    if net.target.streams:
        what = "the interface 'axilite' has a register for each element, and a stream passes a pixel at a time"
        raise UnsupportedError(what, remedy="build the model with --io-type io_parallel, or use --interface axis")
    inner, blocks, word = fixed_interface(net), list[Registers](), FIRST
    for stream in net.streams:
        blocks.append(Registers(stream=stream, first=word))
        word = blocks[-1].end
    if word > WORDS:
        what = f"its inputs and outputs need {word - FIRST} registers, and 'axilite' has {WORDS - FIRST}"
        raise UnsupportedError(what, remedy="use --interface axis")
    top, port = f"{net.graph.name}_axilite", LitePort()
    return Interface(
        top=top,
        title="AXI4-Lite",
        ports=(port,),
        registers=[(name, word, 1, read) for name, word, read in CONTROL]
        + [(_name(each), each.first, each.end - each.first, not each.stream.is_input) for each in blocks],
        rtl={
            **inner.rtl,
            "rtl/po2flow_axilite.v": filled(ROOM, "po2flow_axilite.v", {}),
            f"rtl/{top}.v": _top(top, inner.top, net.number, blocks),
        },
        bench=_bench(top, net, blocks) | _software(top, net, blocks),
        benches=f"{top}_bench.sv",
        readme={
            "ROWS": "| `s_axi` | 32 | 32 | | registers |\n",
            "SIGNALS": TOLD.format(top=top),
            "ORDERS": _map(net, blocks),
            "LATENCY": f"{counted(net.latency + 2, 'cycle')}, from the write that starts the net to its result",
            "INTERVAL": f"{counted(net.latency + 2, 'cycle')}; the next inputs may be written while the net is busy",
            "WAITING": WAITING,
        },
    )


def _name(block: Registers) -> str:
    return f"{'INPUT' if block.stream.is_input else 'OUTPUT'}_{block.stream.op.name}"


def _map(net: Net, blocks: Sequence[Registers]) -> str:
    rows = "".join(
        f"| 0x{4 * block.first:03X} | {'write' if block.stream.is_input else 'read'} | `{_name(block)}` | "
        f"{counted(block.stream.elements, 'element')}, {' x '.join(map(str, block.stream.op.shape))}, of "
        f"{described(block.stream.op.format)}; element i at + {4 * block.words}i |\n"
        for block in blocks
    )
    return f"""\
| address | | register | |
|---|---|---|---|
| 0x000 | write | `CONTROL` | 1: start, if the net is idle |
| 0x004 | read | `STATUS` | bit 0 idle, bit 1 done (until the next start), bit 2 missed: a start found the net busy |
| 0x008 | read | `VERSION` | {VERSION}: of this map |
| 0x00C | read | `NET` | 0x{net.number:08X}: this net, with these weights |
{rows}
The last index runs fastest. Of an input the bits above its width are not read; in an output they repeat the sign, or
are zero. Words of a wide element: the lower one first.
"""


def _top(top: str, inner: str, number: int, blocks: Sequence[Registers]) -> str:
    """Return the module: the port, the registers, and the net between them."""
    inputs, outputs = ([each for each in blocks if each.stream.is_input == side] for side in (True, False))
    ports = [port("input", "aclk"), port("input", "aresetn")]
    ports += [port("input" if read else "output", signal, width) for signal, read, width in LitePort().signals]
    here = [f"{each.stream.name}_here" for each in blocks]
    body = declare("rst", value="~aresetn") + declare("write", "writable", "readable")
    body += declare("write_word", "read_word", width=10) + declare("read_data", width=32)
    body += declare(*here) + "".join(declare(f"{each.stream.name}_tdata", width=each.stream.bits) for each in blocks)
    body += "".join(declare(f"{each.stream.name}_tvalid") for each in outputs)
    slave = {name: f"s_axi_{name}" for name, _, _ in SIGNALS if not name.endswith("prot")}
    words = ("write", "write_word", "writable", "read_word", "read_data", "readable")
    clock = {"clk": "aclk", "rst": "rst"}
    body += instance("po2flow_axilite", "slave", clock, slave, {name: name for name in words}, framed=True)
    body += "    reg go, busy, done, missed;\n"
    body += declare("start", value="write && write_word == 10'd0 && s_axi_wdata[0] && s_axi_wstrb[0]")
    body += declare("finished", value=f"{outputs[0].stream.name}_tvalid")
    body += """\
    always @(posedge aclk) begin
        go <= aresetn & start & ~busy;
        if (rst) {busy, done, missed} <= 3'd0;
        else begin
            busy <= busy ? ~finished : start;
            done <= (done | finished) & ~(start & ~busy);
            missed <= start ? busy : missed;
        end
    end
"""
    taken = " || ".join(f"{each.stream.name}_here" for each in inputs)
    body += assign("writable", f"write_word == 10'd0 || {taken}")
    given = [f"{each.stream.name}_here" for each in outputs]
    body += assign("readable", " || ".join(["(read_word >= 10'd1 && read_word <= 10'd3)", *given]))
    values = {1: "{29'd0, missed, done, ~busy}", 2: f"32'd{VERSION}", 3: f"32'd{number}"}
    chosen = [f"(read_word == 10'd{word} ? {value} : 32'd0)" for word, value in values.items()]
    chosen += [f"{each.stream.name}_word" for each in outputs]
    for each in blocks:
        body += _registers(each)
    body += assign("read_data", " | ".join(chosen))
    lines = [{"aclk": "aclk", "aresetn": "aresetn"}]
    for each in blocks:
        name = each.stream.name
        valid = "go" if each.stream.is_input else f"{name}_tvalid"
        lines.append({f"{name}_tdata": f"{name}_tdata", f"{name}_tvalid": valid})
    return module(top, ports, body + instance(inner, "net", *lines, framed=True))


def _registers(block: Registers) -> str:
    """Return the registers of an input or output."""
    stream, name = block.stream, block.stream.name
    width = stream.op.format.width
    settings = {"FIRST": block.first, "COUNT": stream.elements, "WIDTH": width, "WORDS": block.words}
    here = {"here": f"{name}_here"}
    if stream.is_input:
        spare = stream.bits - stream.used_bits
        body = declare(f"{name}_codes", width=stream.used_bits)
        body += assign(f"{name}_tdata", f"{{{spare}'d0, {name}_codes}}" if spare else f"{name}_codes")
        bus = {"write": "write", "word": "write_word", "data": "s_axi_wdata", "strobes": "s_axi_wstrb"}
        wires = {"clk": "aclk", "rst": "rst", **bus, **here, "codes": f"{name}_codes"}
        return body + instance("po2flow_written", f"{name}_registers", wires, parameters=settings)
    body = declare(f"{name}_codes", width=stream.used_bits, kind="reg") + declare(f"{name}_word", width=32)
    body += f"""\
    always @(posedge aclk)
        if (rst) {name}_codes <= 0;
        else if (finished) {name}_codes <= {name}_tdata[{stream.used_bits - 1}:0];
"""
    wires = {"codes": f"{name}_codes", "word": "read_word", **here, "data": f"{name}_word"}
    settings["SIGNED"] = int(stream.op.format.signed)
    return body + instance("po2flow_read", f"{name}_registers", wires, parameters=settings)


# ---------------------------------------------------------------------- bench and software


def _bench(top: str, net: Net, blocks: Sequence[Registers]) -> dict[str, str]:
    sides = {
        side: np.concatenate(
            [each.packed(net.codes[each.stream.op.name]) for each in blocks if each.stream.is_input == read], axis=1
        )
        for side, read in (("inputs", True), ("outputs", False))
    }
    words = {
        "TOP": top,
        "HALF_PERIOD": f"{net.target.clock_period_ns / 2:.3f}",
        "PERIOD_PS": period_ps(net),
        "SAMPLES": net.samples,
        "LATENCY": net.latency,
        "GIVEN": sides["inputs"].shape[1],
        "TAKEN": sides["outputs"].shape[1],
        "FIRST": FIRST,
        "VERSION": VERSION,
        "NET": net.number,
        "RESETS": RESETS,
    }
    hexadecimal = {f"bench/vectors/{side}.hex": _hex(values) for side, values in sides.items()}
    return {
        **hexadecimal,
        f"bench/{top}_bench.sv": filled(ROOM, "axilite_bench.sv", words),
        "bench/cocotb_bench.py": filled(ROOM, "axilite_cocotb_bench.py", words),
    }


def _hex(values: Codes) -> str:
    return "".join(f"{word:08x}\n" for word in values.reshape(-1).tolist())


def _software(top: str, net: Net, blocks: Sequence[Registers]) -> dict[str, str]:
    """Return the header for C, and the driver for Python."""
    upper = top.upper()
    given, tensors = "", {True: "", False: ""}
    parameters, written, read = list[str](), "", ""
    for block in blocks:
        op, fmt, is_input = block.stream.op, block.stream.op.format, block.stream.is_input
        count, size, constant = block.stream.elements, block.words, f"{upper}_{_name(block)}"
        given += f"#define {constant} 0x{4 * block.first:03X}u /* {count} of {described(fmt)} */\n"
        kind = f"{'' if fmt.signed else 'u'}int{32 * size}_t"
        parameters.append(f"{'const ' if is_input else ''}{kind} {op.name}[{count}]")
        loop, place = f"    for (i = 0; i < {count}u; i++) ", f"base, {constant} / 4u + {size}u * i"
        if is_input:
            written += f"{loop}po2flow_write{size}({place}, (uint{32 * size}_t){op.name}[i]);\n"
        else:
            read += f"{loop}{op.name}[i] = ({kind})po2flow_read{size}({place});\n"
        shape = f"{op.shape}, {fmt.signed}, {fmt.width}, {fmt.frac_bits}, {4 * block.first}"
        tensors[is_input] += f'    "{op.name}": Registers({shape}),\n'
    words = {
        "TOP": top,
        "UPPER": upper,
        "VERSION": VERSION,
        "NET": f"0x{net.number:08X}",
        "CONSTANTS": given,
        "PARAMETERS": ", ".join(parameters),
        "WRITTEN": written,
        "READ": read,
        "INPUTS": tensors[True],
        "OUTPUTS": tensors[False],
        "TENSORS": filled(ROOM, "driver_tensors.py", {}),
    }
    return {
        f"software/{top}.h": filled(ROOM, "axilite.h", words),
        "software/po2flow_driver.py": filled(ROOM, "axilite_driver.py", words),
    }
