"""Place and route by nextpnr: the clock that a design reaches on parts of Lattice (docs/synthesis.md).

A model has more wires than a package has pins. So the top is put into a harness of four pins, the same for every part:
one shift register feeds its inputs, another takes its outputs, and all paths from register to register are timed, those
into and out of the model too. The harness is part of the placed design and of its counts; `detail.harness_ff` says how
many flip-flops are its own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flow.backends.rtl.synthesis.synth import ModuleFiles, cache_key, module_files, read_modules
from flow.backends.yosys.cells import find_family
from flow.backends.yosys.scripts import TIMEOUT_S, Script, quoted, run_scripts
from flow.errors import ToolFailedError, ToolMissingError, UnsupportedError
from flow.files import temporary
from flow.parts import LATTICE_PACKAGE, Part, find_device
from flow.progress import Announce, silent
from flow.results import ResourceReport, Resources
from flow.runs import keep, read_kept
from flow.target import Target
from flow.toolchain import find_tool, run_pool, tool_version

PROGRAMS = {
    "ECP5": "nextpnr-ecp5",
    "iCE40 HX": "nextpnr-ice40",
    "iCE40 LP": "nextpnr-ice40",
    "iCE40 UltraPlus": "nextpnr-ice40",
}
YOWASP = "yowasp"
"""Packages of PyPI whose names begin so hold tools for WebAssembly, each as a function."""
CLOCK = "aclk"
HARNESS = "po2flow_harness"
ICE40_PACKAGES = {"HX1K": "tq144", "HX4K": "tq144", "HX8K": "ct256", "LP1K": "cm121", "LP8K": "cm225", "UP5K": "sg48"}
"""Package of a part that names none."""
ECP5_PACKAGES = {"bg": "CABGA", "mg": "CSFBGA", "tg": "TQFP"}
COUNTED = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D ICESTORM_DSP", "bram_18k": "DP16KD"}
"""Field -> nextpnr's words. A logic cell of iCE40 holds LUT and flip-flop, so there it is `detail` that has them."""


def place_and_route(
    directory: Path,
    name: str,
    target: Target,
    cache: Path,
    *,
    announce: Announce = silent,
    timeout_s: float = TIMEOUT_S,
) -> ResourceReport:
    """Place and route a project and return the clock it reaches.

    Args:
        directory: the project, with `rtl/*.v`.
        name: its top module, the model.
        target: names the part, with package and speed grade if they matter, and the clock to aim at.
        cache: directory of what was found before.
        announce: called with a line as each step begins.
        timeout_s: how long one step may take.

    Returns:
        Source "nextpnr": reached clock in `estimated_clock_period_ns`, and the cells used, harness included.

    Raises:
        SpecError: the part is not known.
        UnsupportedError: there is no nextpnr for its family.
        ToolMissingError: nextpnr or Yosys is not installed.
        ToolFailedError: one failed (the design may not fit), took too long, or left no report.
        EmitError: the project has no such module.
        OutputError: the cache cannot be written.
    """
    part = find_device(target.part)
    program, tool = nextpnr(part.family)
    top = module_files(read_modules(directory), name)
    options = [*device_options(part, target.part), "--freq", f"{1000 / target.clock_period_ns:.6g}", "--seed", "1"]
    commands = [*_commands(top, "harness.v", "netlist.json", part.family), *options, tool]
    key, path = cache_key(top, commands), cache / f"{name}.nextpnr.json"
    routed = read_kept(path, key)
    if routed is None:
        routed = _run(directory, top, part, [*program, *options], announce, timeout_s)
        keep(path, key, routed)
    return ResourceReport(
        source="nextpnr",
        tool=tool,
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        estimated_clock_period_ns=round(1000 / routed["achieved_mhz"], 3),
        total=_resources(name, routed["used"], routed["harness_ff"]),
        capacity=part.capacity(),
        command=" ".join([PROGRAMS[part.family], *options]),
        family=part.family,
    )


def nextpnr(family: str) -> tuple[list[str], str]:
    """Return the command that starts nextpnr for a family, and its name and version.

    Raises:
        UnsupportedError: there is none.
        ToolMissingError: it is not installed.
    """
    if family not in PROGRAMS:
        raise UnsupportedError(
            f"place and route for family {family!r} is not supported: nextpnr places {', '.join(PROGRAMS)}",
            remedy="for other parts, use the vendor's tool on the project",
        )
    program = PROGRAMS[family]
    package = f"{YOWASP}-{program}"
    command = command_of(program, package)
    if len(command) == 1:
        return command, tool_version(command[0], -1)
    try:
        return command, f"{program} {version(package)} (yowasp)"
    except PackageNotFoundError as error:
        raise ToolMissingError(
            f"'{package.replace('-', '_')}' has no version", remedy=f"pip install --force-reinstall {package}"
        ) from error


def command_of(program: str, package: str) -> list[str]:
    """Return the command that starts a program: its path, or what runs a function or module of a package of PyPI.

    Raises:
        ToolMissingError: it is neither on PATH nor installed.
    """
    native = find_tool(program)
    if native is not None:
        return [native]
    module = package.replace("-", "_")
    if find_spec(module) is None:
        raise ToolMissingError(f"'{program}' is neither on PATH nor installed", remedy=f"pip install {package}")
    if not package.startswith(YOWASP):
        return [sys.executable, "-m", f"{module}.{program}"]
    start = f"import sys, {module} as n; sys.exit(n.run_{program.replace('-', '_')}(sys.argv[1:]))"
    return [sys.executable, "-c", start]


def device_options(part: Part, text: str) -> list[str]:
    """Return nextpnr's options for the device, package and speed grade of a part number.

    Raises:
        UnsupportedError: the package is none that is known here.

    Example:
        >>> device_options(find_device("LFE5U-45F-6BG381C"), "LFE5U-45F-6BG381C")
        ['--45k', '--package', 'CABGA381', '--speed', '6']
    """
    suffix = LATTICE_PACKAGE.fullmatch(text.strip().lower()[len(part.name) :])
    assert suffix is not None, text
    package = suffix["package"]
    if part.family == "ECP5":
        series, size = part.name.removeprefix("LFE5").lower().split("-")
        device = f"--{size.removesuffix('f')}k" if series == "u" else f"--{series}-{size.removesuffix('f')}k"
        kind, pins = re.fullmatch(r"([a-z]*)(\d*)", package or "bg381").groups()  # type: ignore[union-attr]
        if kind not in ECP5_PACKAGES:
            raise UnsupportedError(
                f"package of part {text!r} is not known", remedy=f"known: {', '.join(ECP5_PACKAGES)} with pins"
            )
        return [device, "--package", f"{ECP5_PACKAGES[kind]}{pins}", "--speed", suffix["speed"] or "6"]
    device = part.name.removeprefix("iCE40")
    return [f"--{device.lower()}", "--package", package or ICE40_PACKAGES[device]]


def harness(name: str, ports: Mapping[str, Any]) -> tuple[str, int]:
    """Return Verilog that drives a top from shift registers, and how many flip-flops it has.

    Args:
        name: the top module.
        ports: port name -> {"direction": "input" or "output", "bits": one entry per bit}, as Yosys writes them.
    """
    widths = {
        direction: {port: len(of["bits"]) for port, of in ports.items() if of["direction"] == direction}
        for direction in ("input", "output")
    }
    widths["input"].pop(CLOCK)
    pins = [f".{CLOCK}(clk)"]
    totals = {}
    for direction, wires in (("input", "fed"), ("output", "taken")):
        offset = 0
        for port, width in widths[direction].items():
            pins.append(f".{port}({wires}[{offset} +: {width}])")
            offset += width
        totals[direction] = offset
    fed, taken = totals["input"], totals["output"]
    text = f"""module {HARNESS}(input clk, input load, input si, output so);
  reg [{fed - 1}:0] fed;
  wire [{taken - 1}:0] taken;
  reg [{taken - 1}:0] out;
  always @(posedge clk) begin
    fed <= {{fed, si}};
    out <= load ? taken : {{si, out}} >> 1;
  end
  assign so = out[0] ^ fed[{fed - 1}];
  {name} top({", ".join(pins)});
endmodule
"""
    return text, fed + taken


def read_report(path: Path) -> dict[str, Any]:
    """Return reached clock (`achieved_mhz`) and cells (`used`) of nextpnr's `--report`.

    Raises:
        ToolFailedError: it is no such file, or has not exactly one clock.
    """
    try:
        data = json.loads(path.read_text())
        (clock,) = data["fmax"].values()
        used = {name: int(of["used"]) for name, of in data["utilization"].items() if of["used"]}
        return {"achieved_mhz": float(clock["achieved"]), "used": used}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolFailedError(f"nextpnr left no readable report of one clock in {path.name} ({error!r})") from error


def _run(
    directory: Path, top: ModuleFiles, part: Part, program: list[str], announce: Announce, timeout_s: float
) -> dict[str, Any]:
    with temporary() as scratch:
        announce(f"synthesizing {top.name} for nextpnr")
        ports = scratch / "ports.json"
        read = f"read_verilog {' '.join(top.files)}"
        only_top = (f"hierarchy -top {top.name}", f"blackbox {top.name}", f"hierarchy -top {top.name}")
        run_scripts({"ports": (read, *only_top, f"write_json {quoted(ports)}")}, directory, timeout_s=timeout_s)
        verilog, flip_flops = harness(top.name, json.loads(ports.read_text())["modules"][top.name]["ports"])
        (scratch / "harness.v").write_text(verilog)
        mapped = _commands(top, quoted(scratch / "harness.v"), quoted(scratch / "netlist.json"), part.family)
        run_scripts({"netlist": mapped}, directory, timeout_s=timeout_s)
        announce(f"placing and routing {top.name}")
        files = ["--json", "netlist.json", "--report", "report.json", "--timing-allow-fail"]
        free = ["--lpf-allow-unconstrained" if part.family == "ECP5" else "--pcf-allow-unconstrained"]
        run_pool({"nextpnr": [*program, *files, *free]}, scratch, timeout_s, lambda name: None)
        return {**read_report(scratch / "report.json"), "harness_ff": flip_flops}


def _commands(top: ModuleFiles, harness_file: str, netlist: str, family: str) -> Script:
    synthesis = f"{find_family(family).synthesis} -top {HARNESS} -json {netlist}"
    return (f"read_verilog {' '.join(top.files)} {harness_file}", synthesis)


def _resources(name: str, used: Mapping[str, int], harness_ff: int) -> Resources:
    """Return nextpnr's counts; those it has no word for stay None."""
    ecp5 = "TRELLIS_COMB" in used
    fields = COUNTED if ecp5 else {"dsp": COUNTED["dsp"]}
    counts: dict[str, Any] = {
        field: sum(used.get(word, 0) for word in words.split()) for field, words in fields.items()
    }
    detail = {word.lower(): number for word, number in used.items()}
    return Resources(name=name, **counts, detail={**detail, "harness_ff": harness_ff})
