"""What requantizers are run on: inputs that check them, and accumulators of the models that come along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.cost.requantizers import CONSTANT
from flow.data.inputs import Samples, to_port
from flow.frontend.extraction import extract
from flow.frontend.trained import load_trained
from flow.ir.graph import MatMul, Op
from flow.ir.passes import lower
from flow.ir.reference import run
from flow.study.circuits import Circuit
from flow.study.definitions import Codes, Parameters, clamp
from flow.train.spec import find_model_dir

MODELS = ("digits_mlp", "fashion_cnn", "mnist_mlp")
SAMPLES = 128
"""Of each model, in their order."""
STRETCHES, STRETCH = 16, 128
"""Of each dense or convolution, so many stretches of so many accumulators, evenly spread over all of them; within a
stretch in the order in which a kernel makes them: the channels of a place first."""
EXHAUSTIVE_BITS = {"constant": 24, "runtime": 16}
"""Accumulators that are at most so wide are all tried."""
PART = 1 << 20
"""Inputs that are compared at a time."""


@dataclass(frozen=True, slots=True)
class Case:
    """Accumulators and the parameters that they meet: one of each, or one per accumulator."""

    acc: Codes
    parameters: Parameters


def scope(circuit: Circuit, acc_bits: int) -> str:
    """Return "exhaustive" if `cases` has every accumulator, else "vectors"."""
    return "exhaustive" if acc_bits <= EXHAUSTIVE_BITS[circuit.parameters] else "vectors"


def cases(circuit: Circuit, acc_bits: int, out_bits: int) -> Iterator[Case]:
    """Yield what a circuit is checked on, always the same.

    Every accumulator if they are few enough, otherwise ties, extremes and random ones; of the run-time variants, with
    each of several parameter sets, the ends of every port among them, and with random parameters for each accumulator.
    """
    rng = np.random.default_rng(1)
    sets = list(parameter_sets(circuit, acc_bits, out_bits, rng))
    for parameters in sets:
        if scope(circuit, acc_bits) == "exhaustive":
            low = -(1 << (acc_bits - 1)) if circuit.signed else 0
            high = low + (1 << acc_bits)
            for start in range(low, high, PART):
                yield Case(np.arange(start, min(start + PART, high)), parameters)
        else:
            yield Case(_accumulators(acc_bits, parameters, rng), parameters)
    if circuit.parameters != CONSTANT and circuit.memory is None:
        acc = np.concatenate([_accumulators(acc_bits, each, rng) for each in sets[:4]])
        yield Case(acc, _random(circuit.ports(acc_bits, out_bits), len(acc), rng))


def parameter_sets(circuit: Circuit, acc_bits: int, out_bits: int, rng: np.random.Generator) -> Iterator[Parameters]:
    """Yield the measured parameters; of the run-time variants also others."""
    measured, ports = circuit.values(acc_bits, out_bits), circuit.ports(acc_bits, out_bits)
    yield measured
    if circuit.parameters == CONSTANT:
        return
    if circuit.memory is not None:
        words, bits = len(measured[circuit.memory]), ports[circuit.memory]
        content = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), words)
        yield {circuit.memory: np.sort(content) if circuit.signed else content}
        return
    if ports.keys() == {"shift"}:
        yield from ({"shift": shift} for shift in range(1 << ports["shift"]))
        return
    for pick in range(4):  # the ends of every port, and powers of two, which make ties
        yield {name: _ends(name, bits)[pick] for name, bits in ports.items()}
    for bits in (1, 2, acc_bits // 2):
        yield {**measured, **_power(ports, bits)}
    for _ in range(4):
        yield {name: int(each[0]) for name, each in _random(ports, 1, rng).items()}


def _ends(name: str, bits: int) -> tuple[int, int, int, int]:
    if name == "scale":
        return 1 << 23, (255 << 23) - 1, 127 << 23, 126 << 23
    if name == "zero_point":
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0, -1
    return (0, (1 << bits) - 1, 1, 1 << (bits - 1)) if name == "multiplier" else (0, (1 << bits) - 1, 1, bits)


def _power(ports: Mapping[str, int], shift: int) -> dict[str, int]:
    """Return parameters that divide by a power of two."""
    if "scale" in ports:
        return {"scale": (127 - shift) << 23}
    return {"multiplier": 1 << (ports["multiplier"] - 1), "shift": shift}


def _random(ports: Mapping[str, int], count: int, rng: np.random.Generator) -> dict[str, Codes]:
    def port(name: str, bits: int) -> Codes:
        if name == "scale":
            return rng.integers(90 << 23, 140 << 23, count)
        low = -(1 << (bits - 1)) if name == "zero_point" else 0
        return rng.integers(low, low + (1 << bits), count)

    return {name: port(name, bits) for name, bits in ports.items()}


def _accumulators(bits: int, parameters: Parameters, rng: np.random.Generator) -> Codes:
    """Return both ends, small ones, odd multiples of powers of two and their neighbours (ties), and random ones."""
    powers = 1 << np.arange(bits)
    near = np.arange(-1, 2)
    odd = np.arange(-63, 64, 2)
    ties = (odd[:, None, None] * powers[:, None] + near).ravel()
    pairs = (powers[:, None, None] - powers[:, None] + near).ravel()
    spread = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 20000) >> rng.integers(0, bits, 20000)
    uniform = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 10000)
    steps = np.asarray(parameters.get("steps", ()), np.int64)
    at_steps = (steps[:, None] + near).ravel()
    every = np.concatenate([np.arange(-300, 301), ties, pairs, -pairs, spread, uniform, at_steps])
    return clamp(every, bits)


# -- accumulators of models


def model_accumulators(names: Sequence[str] = MODELS) -> dict[str, Codes]:
    """Return "model/op" -> accumulators of each dense and convolution, on inputs kept with the models."""
    found: dict[str, Codes] = {}
    for name in names:
        trained = load_trained(find_model_dir(name))
        graph = lower(extract(trained))
        assert trained.verification_inputs is not None
        values = trained.verification_inputs[:SAMPLES]
        port = to_port(Samples(values=values, labels=None, source=name), graph)
        found.update({f"{name}/{op}": acc for op, acc in _observed(graph, port.codes).items()})
    return found


def _observed(graph: Any, codes: NDArray[Any]) -> dict[str, Codes]:
    taken: dict[str, list[Codes]] = {}

    def observe(op: Op, result: NDArray[Any], frac_bits: int) -> None:
        if isinstance(op, MatMul):
            taken.setdefault(op.name, []).append(np.asarray(result).astype(np.int64).ravel())

    run(graph, codes, observe)
    stretches = {}
    for name, parts in taken.items():
        acc = np.concatenate(parts)
        starts = np.linspace(0, max(len(acc) - STRETCH, 0), STRETCHES).astype(int)
        stretches[name] = np.concatenate([acc[start : start + STRETCH] for start in starts])
    return stretches


def widened(accumulators: Mapping[str, Codes], bits: int, *, zeros: bool = False) -> Codes:
    """Return all accumulators, one op after another, each op's shifted so that its largest magnitude fills the width.

    A quarter of the width is left as headroom. Where a shift to the left adds bits, they are random (a wider
    accumulator's low bits are as good as that; zeros would favour whatever reads them), or `zeros`.
    """
    rng = np.random.default_rng(1)
    room = bits - bits // 4
    parts = []
    for acc in accumulators.values():
        width = 1 + int(max(acc.max(), ~acc.min(), 0)).bit_length()
        left = room - width
        if left <= 0:
            parts.append(acc >> -left)
        else:
            parts.append((acc << left) + (0 if zeros else rng.integers(0, 1 << left, len(acc))))
    return np.concatenate(parts)


def codes_of(accumulators: Codes, bits: int, code_bits: int) -> Codes:
    """Return unsigned codes of widened accumulators, as a decoder meets them: their top bits, headroom left out."""
    room = bits - bits // 4
    return (accumulators >> (room - code_bits)) + (1 << (code_bits - 1))
