"""docs/quantizer-cost.md and its plot, from the measured table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flow.cost.requantizers import CONSTANT, QUANTIZERS_JSON, RUNTIME, Costs, FpgaCost, Row, costs_to_json
from flow.files import writing
from flow.study.circuits import ACC_BITS, CIRCUITS, OUT_BITS
from flow.study.plot import Mark, plot

AREA_CLAIM, ENERGY_CLAIM = 15.0, 9.0
"""Of the abstract of arXiv 1901.02064."""
COMMAND = "flow study quantizers --output ."
SVG = "quantizer-cost.svg"
BASELINES = ("shift_constant", "shift_runtime")
BASELINE_WORDS = {"shift_constant": "constant shift", "shift_runtime": "run-time shift"}
EARLIER = {
    "shift_constant": (0.13, 0.15, "34", "34 + 0"),
    "shift_runtime": (1.0, 1.0, "114", "114 + 0"),
    "encode16_constant": (2.9, 2.9, "269", "269 + 0"),
    "dyadic8_runtime": (5.5, 5.9, "752", "122 + 2"),
    "dyadic16_runtime": (10.5, 9.8, "1,355", "122 + 2"),
    "float32_runtime": (12.2, 9.7, "1,935", "359 + 2"),
    "tflite31_runtime": (21.5, 22.4, "2,713", "204 + 4"),
    "gemmlowp31_runtime": (21.5, 21.7, "2,862", "365 + 4"),
}
"""Area and energy over the run-time shift, LUTs without DSPs, LUTs + DSPs: an earlier measurement, 32 -> 8."""


def in_words(circuit: str) -> str:
    """Return a circuit's name as a reader says it.

    Example:
        >>> in_words("dyadic16_runtime")
        'dyadic 16-bit, run-time'
    """
    name, _, parameters = circuit.rpartition("_")
    kind = name.rstrip("0123456789")
    number = name.removeprefix(kind)
    spelled = {
        "dyadic": f"dyadic {number}-bit",
        "tflite": "TFLite single rounding",
        "gemmlowp": "gemmlowp double rounding",
        "float": "float32 scale",
        "encode": f"codebook encode, {number} entries",
        "decode": f"codebook decode, {number} entries",
    }
    return f"{spelled.get(kind, kind)}, {'run-time' if parameters == RUNTIME else parameters}"


def render(costs: Costs) -> tuple[str, str]:
    """Return the document and its plot (SVG).

    A table that lacks circuits or widths gives a document that lacks them.
    """
    sections = [_introduction(costs), _ratios(costs), _findings(costs), _main_table(costs), _earlier(costs)]
    sections += [_circuits(), _method(costs), _limits(costs)]
    sections.append(f"## All widths\n\n{_table(_head(costs), map(_measured, costs.rows))}")
    marks = [_mark(costs, row) for row in _compared(costs) if row.acc_bits == max(ACC_BITS)]
    return "\n".join(section for section in sections if section), plot(marks, AREA_CLAIM, ENERGY_CLAIM)


def write_study(costs: Costs, directory: Path) -> tuple[Path, ...]:
    """Write the table, the document and the plot below a directory, in the places that a checkout has for them.

    Returns:
        The files.

    Raises:
        OutputError: one cannot be written.
    """
    document, drawn = render(costs)
    texts = {
        Path("flow/cost") / QUANTIZERS_JSON: costs_to_json(costs),
        Path("docs/quantizer-cost.md"): document,
        Path("docs/images") / SVG: drawn,
    }
    for path, text in texts.items():
        with writing(directory / path) as file:
            file.write(text.encode())
    return tuple(directory / path for path in texts)


# -- ratios


def _baseline(costs: Costs, row: Row, circuit: str) -> Row:
    return costs.find(circuit, row.acc_bits, row.out_bits)


def _compared(costs: Costs) -> list[Row]:
    """Return the rows to 8 bits, and those to 4 of circuits that have no 8; no decoders, which take no accumulator."""
    measured = {(row.circuit, row.acc_bits, row.out_bits) for row in costs.rows}
    whole = [row for row in costs.rows if all((name, row.acc_bits, row.out_bits) in measured for name in BASELINES)]
    rows = []
    for name in dict.fromkeys(row.circuit for row in whole):
        mine = [row for row in whole if row.circuit == name]
        most = max(row.out_bits for row in mine)
        rows += [row for row in mine if row.out_bits == most]
    return rows


def _ratio(row: Row, over: Row) -> tuple[float, float]:
    """Return area without the registers of input and output, and energy without their clock, over another's."""
    return row.logic_area / over.logic_area, row.energy / over.energy


def _with_registers(row: Row, over: Row) -> tuple[float, float]:
    energy = (row.energy + row.clock_energy) / (over.energy + over.clock_energy)
    return row.area / over.area, energy


def _mark(costs: Costs, row: Row) -> Mark:
    constant, runtime = (_ratio(row, _baseline(costs, row, name)) for name in BASELINES)
    short = row.circuit.replace("_", ", ").replace("runtime", "run-time")
    return Mark(f"{short}, {row.acc_bits} -> {row.out_bits}", (constant[0], runtime[0]), (constant[1], runtime[1]))


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _ratios(costs: Costs) -> str:
    rows = []
    for row in _compared(costs):
        cells = [in_words(row.circuit), f"{row.acc_bits} -> {row.out_bits}"]
        for name in BASELINES:
            over = _baseline(costs, row, name)
            plain, full = _ratio(row, over), _with_registers(row, over)
            for index, claim in enumerate((AREA_CLAIM, ENERGY_CLAIM)):
                shown = f"**{_number(plain[index])}**" if plain[index] >= claim else _number(plain[index])
                cells.append(f"{shown} ({_number(full[index])})")
        rows.append(cells)
    head = ["circuit", "widths"]
    head += [f"{what} over {BASELINE_WORDS[name]}" for name in BASELINES for what in ("area", "energy")]
    return f"""## Ratios

Each pair has the same widths on both sides. Before the parentheses: the logic alone, storage included, as an addition
to an accumulator that is registered anyway; bold where it reaches the abstract's factor. In parentheses: with the
registers of input and output and their clock.

![Area and energy of requantizers over those of the two shifts](images/{SVG})

{_table(head, rows)}"""


def _findings(costs: Costs) -> str:
    """Sort pairs by the abstract's two factors: alike parameters, and run-time circuits over the constant shift."""
    lines = []
    for parameters, name in ((CONSTANT, BASELINES[0]), (RUNTIME, BASELINES[1]), (RUNTIME, BASELINES[0])):
        rows = [row for row in _compared(costs) if row.parameters == parameters and row.acc_bits == max(ACC_BITS)]
        rows = [row for row in rows if row.circuit not in BASELINES]
        for index, (what, claim) in enumerate((("area", AREA_CLAIM), ("energy", ENERGY_CLAIM))):
            above, below = list[str](), list[str]()
            for row in rows:
                ratio = _ratio(row, _baseline(costs, row, name))[index]
                words = f"{in_words(row.circuit).rpartition(',')[0]} {row.acc_bits} -> {row.out_bits}: {_number(ratio)}"
                (above if ratio >= claim else below).append(words)
            kind = "Run-time" if parameters == RUNTIME else "Constant"
            lines.append(
                f"| {kind} circuits over the {BASELINE_WORDS[name]} of their widths: {what} | {claim:g}x | "
                f"{'; '.join(above) or 'none'} | {'; '.join(below) or 'none'} |"
            )
    listed = "\n".join(lines)
    return f"""## What reaches 15x and 9x

Logic alone, accumulators of {max(ACC_BITS)} bits:

| pairs | line | at or above | below |
| --- | --- | --- | --- |
{listed}

So it is a question of the pair, and of what is counted: a constant shift is wires, a short increment and a clamp; a
run-time shift is a barrel shifter besides, which a run-time multiplier has behind it too. Narrower accumulators and the
registers of input and output bring most ratios down: the table above has both.
"""


# -- tables of measurements


def _fpga(plain: FpgaCost | None, without: FpgaCost | None) -> list[str]:
    """Return the cells of a family; a dash is what was not synthesized."""
    memory = f" + {plain.bram_18k} BRAM18" if plain is not None and plain.bram_18k else ""
    return [
        "-" if plain is None else f"{plain.lut:,} / {plain.ff:,} / {plain.carry} / {plain.dsp}{memory}",
        "-" if without is None else f"{without.lut:,}",
    ]


def _measured(row: Row) -> list[str]:
    return [
        in_words(row.circuit),
        f"{row.acc_bits} -> {row.out_bits}",
        f"{row.area:,.0f}",
        f"{row.register_area:,.0f}",
        f"{row.storage_bits:,}",
        f"{row.energy:,.0f}",
        f"{row.clock_energy:,.0f}",
        "-" if row.delay_ns is None else f"{row.delay_ns:.1f}",
        *_fpga(row.xc7, row.xc7_nodsp),
        *_fpga(row.xcup, row.xcup_nodsp),
        f"{row.checked.scope}, {row.checked.inputs:,}",
    ]


def _head(costs: Costs) -> list[str]:
    head = ["circuit", "widths", f"area, {costs.area_unit}", "registers in it", "storage, bits"]
    head += [f"energy, {costs.energy_unit}", "clock", "delay, ns", "7-series LUT / FF / CARRY4 / DSP", "LUT, no DSP"]
    return [*head, "UltraScale+ LUT / FF / CARRY4 / DSP", "LUT, no DSP", "checked on"]


def _main_table(costs: Costs) -> str:
    rows = [row for row in _compared(costs) if row.acc_bits == max(ACC_BITS)]
    rows += [row for row in costs.rows if row.circuit.startswith("decode") and row.out_bits == max(OUT_BITS)]
    return f"""## Measurements

Accumulators of {max(ACC_BITS)} bits to 8 (16 entries: to 4), and decoders of codes to 8 bits. Energy and clock are per
operation. All widths are at the end.

{_table(_head(costs), map(_measured, rows))}"""


def _earlier(costs: Costs) -> str:
    """Hold the ratios against those of an earlier measurement."""
    found = {row.circuit: row for row in _compared(costs) if row.acc_bits == max(ACC_BITS)}
    rows = []
    for name, (area, energy, lut, with_dsp) in EARLIER.items():
        row = found.get(name)
        if row is not None and row.xc7 is not None and row.xc7_nodsp is not None:
            now = _ratio(row, _baseline(costs, row, "shift_runtime"))
            cells = [in_words(name), f"{row.acc_bits} -> {row.out_bits}", _number(area), _number(now[0])]
            cells += [_number(energy), _number(now[1]), lut, f"{row.xc7_nodsp.lut:,}"]
            rows.append([*cells, with_dsp, f"{row.xc7.lut:,} + {row.xc7.dsp}"])
    if not rows:
        return ""
    head = ["circuit", "widths", "area, earlier", "here", "energy, earlier", "here"]
    head += ["7-series LUT without DSP, earlier", "here", "LUT + DSP, earlier", "here"]
    return f"""## Held against an earlier measurement

An earlier measurement with Yosys 0.23 and an open 130 nm library: other Verilog of the same functions, combinational,
4,000 vectors each, an area-oriented ABC script, zero-delay toggles on other accumulators. Area and energy are over the
run-time shift; here, logic alone. What the two have in common is the functions, not the circuits: here the shifts
increment the output's bits instead of the accumulator's, multipliers are Booth encoded, and TFLite's and gemmlowp's
have a zero point. Of the earlier encoder it is not known whether its steps were constants; here they are.

{_table(head, rows)}
"""


# -- words


def _introduction(costs: Costs) -> str:
    tools = ", ".join(costs.tools.values())
    return f"""# What requantizing an accumulator costs

An accumulator becomes a code of fewer bits by a scale. Scales that are powers of two take a shift; others take a
multiplier, a float32 unit, a codebook or thresholds. This is what each takes, measured with open tools
({tools}).

The abstract of Geng and others, "Dataflow-based Joint Quantization of Weights and Activations for Deep Neural
Networks" (DCC 2019, arXiv 1901.02064), says of quantization by bit-shifting and rounding that each quantization
operation takes about {AREA_CLAIM:g}x less area and about {ENERGY_CLAIM:g}x less energy than a strong baseline. Which
circuit that baseline is, of which widths, and in which process, is not known to us. So nothing here confirms or refutes
it: the two factors are lines to hold pairs of circuits against.

This file, its plot and `flow/cost/quantizers.json` are made by one command, in a checkout:

    {COMMAND}
"""


def _circuits() -> str:
    listed = "\n".join(
        f"- **{in_words(name).rpartition(',')[0]}**: {circuit.words}."
        for name, circuit in CIRCUITS.items()
        if circuit.parameters == RUNTIME
    )
    return f"""## Circuits

Each is one Verilog module (`flow/study/bodies.py`) that registers its input, computes in one cycle and registers its
output. The run-time variant has its parameters (shift, multiplier, scale, zero point) as ports that registers elsewhere
hold for many such circuits; the constant variant has them as constants and is otherwise the same text. Codebooks and
steps of the run-time variants are memories inside, written through a port, and counted.

{listed}

All codes are signed but those of encoders and thresholds, which count. The constants: the shift brings the largest
accumulator of the simulation to the largest code, multipliers are 1/sqrt(2) of their range, codebooks are denser
towards zero, thresholds are sqrt(2) times a power of two apart.
"""


def _method(costs: Costs) -> str:
    scripts = "\n\n".join(
        f"`{name}`:\n\n" + "\n".join(f"    {command}" for command in commands)
        for name, commands in costs.scripts.items()
    )
    ops = "; ".join(f"`{name}` {count:,}" for name, count in costs.accumulators.items())
    return f"""## Method

**Checked.** The mapped netlist of cells, not the Verilog, is simulated and compared bit for bit with an integer
definition in NumPy (`flow/study/definitions.py`), written apart from the Verilog. A difference ends the study.
"exhaustive": every accumulator (constants: up to 24 bits; run-time variants: 16 bits, with each of several parameter
sets, and random parameters besides); "vectors": odd multiples of every power of two and their neighbours, which holds
the ties, both ends, the neighbours of every step, and random accumulators. Of a codebook's or thresholds' memory, two
contents are tried.

**Area** is the sum over cells of the library `{costs.cell_library}` (Debian's `qflow-tech-osu018` where the name is
`osu018_stdcells`; without it the study counts transistors of generic gates).

**Energy** per operation: toggles of every net that a cell drives, times the capacitance of the input pins on it, times
half the square of the voltage. The clock pins of input and output registers stand apart; the clock of storage is taken
to stand still. Parameters do not change during the run.

**Clock.** Registers to registers in one cycle of {costs.clock_period_ns:g} ns for every circuit, which the sizing of
cells aims at; "delay" is the longest path by ABC, without the registers' own delay.

**Accumulators** of the simulation are those of the models that come along, on the inputs kept with them: {ops}. Each
op's are shifted by the power of two that brings its largest magnitude to three quarters of the width; the last quarter
is headroom. Bits that a shift to the left adds at the bottom are random: zeros there would favour the circuits that
read them. Every circuit of a width sees the same sequence; decoders see its top bits.

**FPGAs**: cells as `stat` counts them ([synthesis.md](synthesis.md)). "no DSP" is the same script with `-nodsp`.

The scripts, after `read_verilog`; `cells.lib` is the library:

{scripts}
"""


def _zeros(costs: Costs) -> str:
    """Say how energies over the shifts change with zeros in place of random bits."""
    found = {row.circuit: row for row in _compared(costs) if row.acc_bits == max(ACC_BITS)}
    pairs = [(name, over) for over in BASELINES[::-1] for name in ("dyadic16_runtime", "float32_runtime")]
    changes = "; ".join(
        f"{in_words(name)}, {row.acc_bits} -> {row.out_bits}, takes {_number(row.energy_zeros / base.energy_zeros)} "
        f"times the energy of the {BASELINE_WORDS[over]} of its widths, not {_number(row.energy / base.energy)}"
        for name, over in pairs
        if (row := found.get(name)) is not None and (base := _baseline(costs, row, over))
    )
    return f"- Bits that widen an accumulator are random; with zeros there instead, {changes}.\n" if changes else ""


def _limits(costs: Costs) -> str:
    return f"""## Limits

- No wires, no placement, no clock tree; toggles without glitches, which multipliers have more of than shifters. Energy
  inside cells and leakage are left out. So energies are relative.
- ABC's script moves areas by tens of percent, and not alike for all circuits: compare within this table only. The
  netlists' adders are what Yosys makes of `+` and `*` (`-booth`); a datapath compiler would do better.
{_zeros(costs)}\
- One circuit per function, made as small as we know how to; in one cycle. A pipelined multiplier has more registers,
  a serial one less area.
- Constants are those above: another constant has other digits and another area. A constant shift only stores the bits
  it reads, which makes its registers fewer.
- The standard cells are of one 180 nm library ({costs.cell_library}) at one corner.
- FPGA netlists are counted, not simulated; Yosys makes carry chains of CARRY4 for UltraScale+ too.
- Without DSPs, of what has a variant to 8 bits only that was synthesized for FPGAs, and run-time multipliers only for
  accumulators of 32 bits.
- On FPGAs a multiplier hides in DSPs, and the input's register with it: hold LUTs with DSPs and LUTs without side by
  side.
"""
