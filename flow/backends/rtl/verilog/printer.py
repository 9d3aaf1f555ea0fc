"""The printer of Verilog: declarations, assignments, instances and modules as text, each laid out here alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HEADER = "// Made by po2flow; see docs/rtl.md.\n`default_nettype none\n\n"
FOOTER = "\n`default_nettype wire\n"


def module(name: str, ports: Sequence[str], body: str) -> str:
    """Return the file of a module; its ports are declarations, by `port`."""
    listed = ",\n    ".join(ports)
    return f"{HEADER}module {name} (\n    {listed}\n);\n{body}endmodule\n{FOOTER}"


def port(direction: str, name: str, width: int | None = None) -> str:
    """Return the declaration of a port; without a width it is one bit, no vector.

    Example:
        >>> port("input", "x", 8)
        'input wire [7:0] x'
    """
    return f"{direction} wire {_vector(width)}{name}"


def stage(name: str, inputs: Sequence[int], output: int, body: str) -> str:
    """Return the file of a module that takes streams of words `x0`, `x1`, ... and gives `y`, of so many bits a word."""
    streams = [(f"x{number}", width, "input", "output") for number, width in enumerate(inputs)]
    ports = [port("input", "clk"), port("input", "rst")]
    for wires, width, there, back in (*streams, ("y", output, "output", "input")):
        ports += [port(there, f"{wires}_data", width), port(there, f"{wires}_valid"), port(back, f"{wires}_ready")]
    return module(name, ports, body)


def declare(*names: str, width: int | None = None, kind: str = "wire", signed: bool = False, value: str = "") -> str:
    """Return the line that declares wires or registers of one width, the only one with its value.

    Example:
        >>> declare("n1", width=4, signed=True, value="n0 + 1")
        '    wire signed [3:0] n1 = n0 + 1;\\n'
    """
    given = f" = {value}" if value else ""
    return f"    {kind} {'signed ' if signed else ''}{_vector(width)}{', '.join(names)}{given};\n"


def declare_stream(name: str, width: int) -> str:
    """Return the lines that declare the wires of a stream of words."""
    return declare(f"{name}_data", width=width) + declare(f"{name}_valid", f"{name}_ready")


def assign(target: str, value: str) -> str:
    """Return the line that drives a wire."""
    return f"    assign {target} = {value};\n"


def instance(
    module: str,
    name: str,
    *lines: Mapping[str, str],
    framed: bool = False,
    parameters: Mapping[str, object] | None = None,
) -> str:
    """Return the use of a module.

    Args:
        lines: port -> what it is connected to, line by line.
        framed: put the parentheses around the ports on lines of their own.

    Example:
        >>> instance("po2flow_delay", "late", {"clk": "clk"}, {"x": "a", "y": "b"}, parameters={"WIDTH": 8})
        '    po2flow_delay #(.WIDTH(8)) late (.clk(clk),\\n        .x(a), .y(b));\\n'
    """
    settings = f" #({_connected(parameters)})" if parameters else ""
    ports = ",\n        ".join(map(_connected, lines))
    if framed:
        ports = f"\n        {ports}\n    "
    return f"    {module}{settings} {name} ({ports});\n"


def stream(port: str, wires: str) -> dict[str, str]:
    """Return the connection of a port that is a stream of words."""
    return {f"{port}_{part}": f"{wires}_{part}" for part in ("data", "valid", "ready")}


def concat(parts: Sequence[str]) -> str:
    """Return signals side by side, the first one lowest."""
    return parts[0] if len(parts) == 1 else f"{{{', '.join(reversed(parts))}}}"


def repeated(bit: str, count: int) -> str:
    """Return a signal so many times side by side.

    Example:
        >>> repeated("x[7]", 3)
        '{3{x[7]}}'
    """
    return bit if count == 1 else f"{{{count}{{{bit}}}}}"


def literal(value: int, width: int) -> str:
    """Return an integer as a constant of `width` bits, its two's complement if negative.

    Example:
        >>> literal(-1, 4)
        "4'd15"
    """
    return f"{width}'d{value & ((1 << width) - 1)}"


def _vector(width: int | None) -> str:
    return "" if width is None else f"[{width - 1}:0] "


def _connected(ports: Mapping[str, object]) -> str:
    return ", ".join(f".{name}({what})" for name, what in ports.items())
