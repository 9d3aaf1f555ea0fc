"""The Verilog of the requantizers between the registers: it reads `acc` and the parameters, and ends in `result`."""

from __future__ import annotations

from flow.cost.requantizers import RUNTIME
from flow.study.definitions import codebook_entries, codebook_steps, uniform_steps


def literal(value: int, bits: int) -> str:
    """Return a constant, of a negative number its two's complement."""
    return f"{bits}'d{value % (1 << bits)}"


# -- shifts and multipliers


def _round_shift(bits: int, out_bits: int, *, zero_point: bool) -> str:
    """Return rounding and clamping of `halves`, which is `bits` wide and counts halves of an output step.

    Rounding up where the floor is out of range, or is the largest code, does not change what the clamp returns; so
    only `out_bits` are incremented. A zero point is added to one bit more, which holds all that it can bring back.
    """
    kept = out_bits + zero_point
    last = kept - 1
    end = f"{{floor[{bits - 2}], {{{last}{{~floor[{bits - 2}]}}}}}}"
    lines = f"""
  wire signed [{bits - 2}:0] floor = halves[{bits - 1}:1];
  wire fits = &floor[{bits - 2}:{last}] | ~|floor[{bits - 2}:{last}];
  wire up = halves[0] & ~(&floor[{last - 1}:0] & ~floor[{last}]);
  wire signed [{last}:0] rounded = fits ? floor[{last}:0] + up : {end};
"""
    if not zero_point:
        return f"{lines}  wire signed [{out_bits - 1}:0] result = rounded;"
    return f"""{lines}
  wire signed [{kept}:0] moved = rounded + zero_point;
  wire inside = &moved[{kept}:{out_bits - 1}] | ~|moved[{kept}:{out_bits - 1}];
  wire signed [{out_bits - 1}:0] result =
    inside ? moved[{out_bits - 1}:0] : {{moved[{kept}], {{{out_bits - 1}{{~moved[{kept}]}}}}}};
"""


def shift(acc_bits: int, out_bits: int) -> str:
    """Shift, round half up, clamp."""
    return f"""
  wire signed [{acc_bits}:0] halves = $signed({{acc, 1'b0}}) >>> shift;
{_round_shift(acc_bits + 1, out_bits, zero_point=False)}
"""


def _product(acc_bits: int, multiplier_bits: int) -> str:
    return f"  wire signed [{acc_bits + multiplier_bits - 1}:0] product = acc * $signed({{1'b0, multiplier}});"


def dyadic(multiplier_bits: int, acc_bits: int, out_bits: int) -> str:
    """Multiply, shift, round half up, clamp."""
    bits = acc_bits + multiplier_bits
    return f"""
{_product(acc_bits, multiplier_bits)}
  wire signed [{bits}:0] halves = $signed({{product, 1'b0}}) >>> shift;
{_round_shift(bits + 1, out_bits, zero_point=False)}
"""


def tflite(acc_bits: int, out_bits: int) -> str:
    """Multiply, shift by 31 and more, round half up, add a zero point, clamp."""
    return f"""
{_product(acc_bits, 31)}
  wire signed [{acc_bits}:0] halves = $signed(product[{acc_bits + 30}:30]) >>> shift;
{_round_shift(acc_bits + 1, out_bits, zero_point=True)}
"""


def gemmlowp(acc_bits: int, out_bits: int) -> str:
    """The second rounding takes ties away from zero: twice a negative number less one, then as half up."""
    top = acc_bits + 30
    return f"""
{_product(acc_bits, 31)}
  wire signed [{acc_bits - 1}:0] high = $signed(product[{top}:31]) + $signed({{1'b0, product[30]}});
  wire signed [{acc_bits + 1}:0] twice = $signed({{high, 1'b0}}) - $signed({{1'b0, high[{acc_bits - 1}]}});
  wire signed [{acc_bits + 1}:0] halves = twice >>> shift;
{_round_shift(acc_bits + 2, out_bits, zero_point=True)}
"""


# -- float32


def _normalized(bits: int) -> str:
    """Return Verilog that shifts the first one of `magnitude` to the top of `normal` and counts the places."""
    lines, name = [f"  wire [{bits - 1}:0] normal_{bits.bit_length()} = magnitude;"], bits.bit_length()
    for step in reversed(range((bits - 1).bit_length())):
        move = 1 << step
        lines.append(f"  wire far_{step} = ~|normal_{name}[{bits - 1}:{bits - move}];")
        lines.append(f"  wire [{bits - 1}:0] normal_{step} = far_{step} ? normal_{name} << {move} : normal_{name};")
        name = step
    count = ", ".join(f"far_{step}" for step in reversed(range((bits - 1).bit_length())))
    return "\n".join([*lines, f"  wire [{bits - 1}:0] normal = normal_0;", f"  wire [7:0] places = {{{count}}};"])


def _to_float(bits: int) -> str:
    """Return Verilog that makes float32 of `acc`: 24 bits of `mantissa`, `exponent` of its first bit, nearest even."""
    if bits <= 24:
        fill = f"{{normal, {24 - bits}'b0}}" if bits < 24 else "normal"
        return f"""
  wire [23:0] mantissa = {fill};
  wire signed [9:0] exponent = $signed(10'd{bits - 1}) - $signed({{2'b0, places}});
"""
    low = bits - 24
    return f"""
  wire bump = normal[{low - 1}] & (normal[{low}] | |normal[{low - 2}:0]);
  wire [24:0] nearest = normal[{bits - 1}:{low}] + bump;
  wire [23:0] mantissa = nearest[24] ? nearest[24:1] : nearest[23:0];
  wire signed [9:0] exponent = $signed(10'd{bits - 1}) - $signed({{2'b0, places}}) + $signed({{1'b0, nearest[24]}});
"""


def float_scale(acc_bits: int, out_bits: int) -> str:
    """To float32, times a positive normal float32, to an integer; nothing below a half matters, so no subnormals."""
    wide = 24 + out_bits
    carries = "$signed({1'b0, product[47]}) + $signed({1'b0, scaled[24]})"
    return f"""
  wire negative = acc[{acc_bits - 1}];
  wire [{acc_bits - 1}:0] magnitude = negative ? -acc : acc;
{_normalized(acc_bits)}
{_to_float(acc_bits)}
  wire [47:0] product = mantissa * {{1'b1, scale[22:0]}};
  wire [23:0] top = product[47] ? product[47:24] : product[46:23];
  wire half = product[47] ? product[23] : product[22];
  wire rest = |product[21:0] | (product[47] & product[22]);
  wire [24:0] scaled = top + (half & (top[0] | rest));
  wire [23:0] digits = scaled[24] ? scaled[24:1] : scaled[23:0];
  wire signed [10:0] power =
    exponent + $signed({{3'b0, scale[30:23]}}) - 11'sd127 + {carries};
  wire large = power >= {out_bits};
  wire small = power < -1 | ~normal[{acc_bits - 1}];
  wire [3:0] left = power[3:0] + 4'd1;
  wire [{wide - 1}:0] fixed = small ? {wide}'d0 : {{{out_bits}'b0, digits}} << left;
  wire [{out_bits}:0] whole = fixed[{wide - 1}:24] + (fixed[23] & (fixed[24] | |fixed[22:0]));
  wire over = ~small & (large | |whole[{out_bits}:{out_bits - 1}]);
  wire [{out_bits - 1}:0] most = {{negative, {{{out_bits - 1}{{~negative}}}}}};
  wire signed [{out_bits - 1}:0] result = over ? most : negative ? -whole[{out_bits - 1}:0] : whole[{out_bits - 1}:0];
"""


# -- codebooks and thresholds


def _memory(name: str, bits: int, values: tuple[int, ...], *, runtime: bool) -> str:
    """Return a memory that a port writes, or that is constant."""
    declared = f"  reg [{bits - 1}:0] {name} [0:{len(values) - 1}];"
    if runtime:
        return f"{declared}\n  always @(posedge clk) if (write) {name}[address] <= data;"
    lines = "\n".join(f"    {name}[{index}] = {literal(value, bits)};" for index, value in enumerate(values))
    return f"{declared}\n  initial begin\n{lines}\n  end"


def encoder(parameters: str, acc_bits: int, out_bits: int) -> str:
    """All steps side by side, and a count of those passed."""
    steps = codebook_steps(acc_bits, out_bits)["steps"]
    passed = " + ".join(f"(acc >= $signed(steps[{index}]))" for index in range(len(steps)))
    return f"""
{_memory("steps", acc_bits, steps, runtime=parameters == RUNTIME)}
  wire [{out_bits - 1}:0] result = {passed};
"""


def thresholds(parameters: str, acc_bits: int, out_bits: int) -> str:
    """A binary search: one comparison per output bit, each with the steps of its level in a memory of its own.

    Address 2^level + place is step (2 * place + 1) * 2^(out_bits - 1 - level) - 1.
    """
    steps = uniform_steps(acc_bits, out_bits)["steps"]
    lines = [f"  wire [{out_bits - 1}:0] result;"]
    for level in range(out_bits):
        values = tuple(steps[((2 * place + 1) << (out_bits - 1 - level)) - 1] for place in range(1 << level))
        name, bit = f"steps_{level}", out_bits - 1 - level
        lines.append(f"  reg [{acc_bits - 1}:0] {name} [0:{max(len(values) - 1, 1)}];")
        if parameters == RUNTIME:
            place = f"address[{level - 1}:0]" if level else "1'b0"
            mine = f"address[{out_bits - 1}:{level}] == 1"
            lines.append(f"  always @(posedge clk) if (write && {mine}) {name}[{place}] <= data;")
        else:
            each = " ".join(f"{name}[{i}] = {literal(value, acc_bits)};" for i, value in enumerate(values))
            lines.append(f"  initial begin {each} end")
        path = f"result[{out_bits - 1}:{bit + 1}]" if level else "1'b0"
        lines.append(f"  assign result[{bit}] = acc >= $signed({name}[{path}]);")
    return "\n".join(lines)


def search_address(index: int, out_bits: int) -> int:
    """Return where a step lies in the memories of a binary search."""
    below = ((index + 1) & -(index + 1)).bit_length()  # 1 at the last level
    return (1 << (out_bits - below)) + ((index + 1) >> below)


def decoder(parameters: str, acc_bits: int, out_bits: int) -> str:
    """Read a memory."""
    entries = codebook_entries(acc_bits, out_bits)["entries"]
    return f"""
{_memory("entries", out_bits, entries, runtime=parameters == RUNTIME)}
  wire [{out_bits - 1}:0] result = entries[acc];
"""
