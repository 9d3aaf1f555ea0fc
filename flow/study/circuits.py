"""The requantizers that are measured, as Verilog.

Each is one module `requantize`: it registers its input `acc_in`, computes in one cycle, and registers its output
`code`. A parameter is a port of the run-time variant and a constant of the other; nothing else differs between the two.
A memory is written through a port of the run-time variant, and counted; of the other it is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flow.cost.requantizers import CONSTANT, RUNTIME
from flow.study import bodies, definitions
from flow.study.definitions import Codes, Parameters

TOP = "requantize"
ACC_BITS = (32, 24, 16)
OUT_BITS = (8, 6, 4)
ALL_WIDTHS = tuple((acc_bits, out_bits) for acc_bits in ACC_BITS for out_bits in OUT_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """A requantizer.

    Attributes:
        name: what the table calls it.
        parameters: "constant" or "runtime".
        words: what it computes, with its rule for ties.
        body: (acc_bits, out_bits) -> the Verilog between the two registers; it reads `acc`, ends in `result`.
        ports: (acc_bits, out_bits) -> width of each parameter.
        values: (acc_bits, out_bits) -> the parameters that are measured.
        define: (accumulators, parameters, out_bits) -> codes.
        widths: (acc_bits, out_bits) that are measured.
        signed, signed_code: whether `acc_in` and `code` are.
        multiplier_bits, entries: as in the table.
        multiplies: whether FPGAs can use a DSP.
        memory: name of the parameter that is a memory, if one is.
        address: (index of a word, out_bits) -> its address (default: the index).
    """

    name: str
    parameters: str
    words: str
    body: Callable[[int, int], str]
    ports: Callable[[int, int], Mapping[str, int]]
    values: Callable[[int, int], Parameters]
    define: Callable[[Codes, Parameters, int], Codes]
    widths: tuple[tuple[int, int], ...] = ALL_WIDTHS
    signed: bool = True
    signed_code: bool = True
    multiplier_bits: int | None = None
    entries: int | None = None
    multiplies: bool = False
    memory: str | None = None
    address: Callable[[int, int], int] | None = None

    def storage_bits(self, acc_bits: int, out_bits: int) -> int:
        """Return how many bits the run-time variant stores beside the registers of its input and output."""
        if self.memory is None or self.parameters == CONSTANT:
            return 0
        return self.ports(acc_bits, out_bits)[self.memory] * len(self.values(acc_bits, out_bits)[self.memory])


def verilog(circuit: Circuit, acc_bits: int, out_bits: int) -> str:
    """Return the module of a circuit."""
    ports, values = circuit.ports(acc_bits, out_bits), circuit.values(acc_bits, out_bits)
    sign = "signed " if circuit.signed else ""
    lines = ["input wire clk", f"input wire {sign}[{acc_bits - 1}:0] acc_in"]
    constants = []
    for name, bits in ports.items():
        kind = "signed " if name == "zero_point" else ""
        if name == circuit.memory:
            words = values[name]
            if circuit.parameters == RUNTIME:
                address = max(len(words) - 1, 1).bit_length()
                lines += [
                    "input wire write",
                    f"input wire [{address - 1}:0] address",
                    f"input wire [{bits - 1}:0] data",
                ]
        elif circuit.parameters == RUNTIME:
            lines.append(f"input wire {kind}[{bits - 1}:0] {name}")
        else:
            constants.append(f"  localparam {kind}[{bits - 1}:0] {name} = {bodies.literal(int(values[name]), bits)};")
    lines.append(f"output reg {'signed ' if circuit.signed_code else ''}[{out_bits - 1}:0] code")
    text = "\n".join(
        [
            f"module {TOP} (",
            ",\n".join(f"  {line}" for line in lines),
            ");",
            *constants,
            f"  reg {sign}[{acc_bits - 1}:0] acc;",
            "  always @(posedge clk) acc <= acc_in;",
            circuit.body(acc_bits, out_bits),
            "  always @(posedge clk) code <= result;",
            "endmodule",
        ]
    )
    return "".join(f"{line}\n" for line in text.splitlines() if line)


# -- the table


def _circuits(parameters: str) -> tuple[Circuit, ...]:
    def circuit(name: str, words: str, **settings: Any) -> Circuit:
        return Circuit(name=f"{name}_{parameters}", parameters=parameters, words=words, **settings)

    def dyadic(bits: int) -> Circuit:
        return circuit(
            f"dyadic{bits}",
            f"{bits}-bit multiplier, shift, round half up, clamp",
            body=partial(bodies.dyadic, bits),
            ports=lambda acc_bits, out_bits: {"multiplier": bits, "shift": (acc_bits + bits - 1).bit_length()},
            values=partial(definitions.dyadic_values, bits),
            define=definitions.dyadic,
            multiplier_bits=bits,
            multiplies=True,
        )

    def encode(bits: int) -> Circuit:
        return circuit(
            f"encode{1 << bits}",
            f"nearest of {1 << bits} codebook entries, all compared at once; a tie takes the upper one; unsigned",
            body=partial(bodies.encoder, parameters),
            ports=lambda acc_bits, out_bits: {"steps": acc_bits},
            values=definitions.codebook_steps,
            define=definitions.count_steps,
            widths=tuple((acc_bits, bits) for acc_bits in ACC_BITS),
            signed_code=False,
            entries=1 << bits,
            memory="steps",
        )

    def decode(bits: int) -> Circuit:
        return circuit(
            f"decode{1 << bits}",
            f"codebook of {1 << bits} entries, read",
            body=partial(bodies.decoder, parameters),
            ports=lambda acc_bits, out_bits: {"entries": out_bits},
            values=definitions.codebook_entries,
            define=definitions.look_up,
            widths=((bits, 16), (bits, 8)),
            signed=False,
            entries=1 << bits,
            memory="entries",
        )

    scaled = {
        "ports": lambda acc_bits, out_bits: {"multiplier": 31, "shift": 5, "zero_point": out_bits},
        "values": definitions.scaled_values,
        "multiplier_bits": 31,
        "multiplies": True,
    }
    return (
        circuit(
            "shift",
            "shift, round half up, clamp",
            body=bodies.shift,
            ports=lambda acc_bits, out_bits: {"shift": (acc_bits - 1).bit_length()},
            values=definitions.shift_values,
            define=definitions.shift_clamp,
        ),
        dyadic(8),
        dyadic(16),
        circuit(
            "tflite31",
            "31-bit multiplier, shift, round half up, zero point, clamp",
            body=bodies.tflite,
            define=definitions.tflite_single,
            **scaled,
        ),
        circuit(
            "gemmlowp31",
            "31-bit multiplier, round half up, shift, round half away from zero, zero point, clamp",
            body=bodies.gemmlowp,
            define=definitions.gemmlowp_double,
            **scaled,
        ),
        circuit(
            "float32",
            "to float32, times a float32 scale, to an integer, each rounded half to even; clamp",
            body=bodies.float_scale,
            ports=lambda acc_bits, out_bits: {"scale": 31},
            values=definitions.float_values,
            define=definitions.float_scale,
            multiplies=True,
        ),
        encode(4),
        encode(8),
        decode(4),
        decode(8),
        circuit(
            "thresholds",
            "thresholds by binary search, one comparison per output bit: steps at or below the accumulator, unsigned",
            body=partial(bodies.thresholds, parameters),
            ports=lambda acc_bits, out_bits: {"steps": acc_bits},
            values=definitions.uniform_steps,
            define=definitions.count_steps,
            signed_code=False,
            memory="steps",
            address=bodies.search_address,
        ),
    )


CIRCUITS: Mapping[str, Circuit] = {
    circuit.name: circuit for parameters in (CONSTANT, RUNTIME) for circuit in _circuits(parameters)
}
