"""The circuit that a TFHE server computes for one sample: matrices of integers, and how their sums become codes.

It knows no graph and no library: it travels to where a library is, in arrays and JSON types, and is computed there or
on plain integers, by the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from flow.encrypted.cuts import Arithmetic, Cut, Plain, carve
from flow.ir.fixed import Cast, Codes, FixedFormat, Overflow, Rounding


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Sums of a stage that become codes alike.

    Attributes:
        matrix: int64 (sums, all codes before it: the input's and those of each stage).
        bias: int64 (sums,).
        cut: how they become codes.
    """

    matrix: Codes
    bias: Codes
    cut: Cut


@dataclass(frozen=True, slots=True, eq=False)
class Circuit:
    """What a server computes for one sample.

    Attributes:
        name: of the model.
        digest: of its graph.
        low, high: int64, the ends of each code of the input.
        stages: groups of sums; each stage's codes, group after group, follow those before it.
        last: the last sums, which are the codes of the graph's output.
    """

    name: str
    digest: str
    low: Codes
    high: Codes
    stages: tuple[tuple[Group, ...], ...]
    last: Group


def compute(circuit: Circuit, codes: Codes) -> Codes:
    """Return the output codes of one sample, computed as a server does but on plain integers: int64."""
    return np.asarray(outputs(circuit, codes.reshape(-1), Plain()) + circuit.last.cut.low)


def outputs(circuit: Circuit, x: Any, how: Arithmetic) -> Any:
    """Return what a circuit makes of the codes of its input, in an arithmetic: the output's codes less their lowest."""
    parts = [x]
    for stage in circuit.stages:
        parts += [carve(_sums(group, parts), group.cut, how) for group in stage]
    ends = circuit.last.cut
    return how.within(_sums(circuit.last, parts) - ends.low, ends.high - ends.low)


def _sums(group: Group, parts: list[Any]) -> Any:
    """Return sums over the codes so far, part by part; parts that are not read cost nothing."""
    starts = np.cumsum([0, *(part.shape[0] for part in parts)]).tolist()
    columns = [group.matrix[:, start:end] for start, end in pairwise(starts)]
    read = [number for number, each in enumerate(columns) if each.any()] or [0]
    return sum((columns[number] @ parts[number] for number in read[1:]), columns[read[0]] @ parts[read[0]]) + group.bias


def to_arrays(circuit: Circuit) -> tuple[dict[str, Any], dict[str, Codes]]:
    """Return a circuit as JSON types and arrays."""
    groups = [*(group for stage in circuit.stages for group in stage), circuit.last]
    about = {
        "name": circuit.name,
        "digest": circuit.digest,
        "stages": [len(stage) for stage in circuit.stages],
        "cuts": [_cut_to_json(group.cut) for group in groups],
    }
    arrays = {"low": circuit.low, "high": circuit.high}
    for number, group in enumerate(groups):
        arrays |= {f"matrix{number}": group.matrix, f"bias{number}": group.bias}
    return about, arrays


def from_arrays(about: dict[str, Any], arrays: Any) -> Circuit:
    """Return the circuit that `to_arrays` took apart."""
    cuts = [_cut_from_json(each) for each in about["cuts"]]
    groups = [Group(arrays[f"matrix{n}"], arrays[f"bias{n}"], cut) for n, cut in enumerate(cuts)]
    stages, start = [], 0
    for size in about["stages"]:
        stages.append(tuple(groups[start : start + size]))
        start += size
    return Circuit(about["name"], about["digest"], arrays["low"], arrays["high"], tuple(stages), groups[-1])


def _cut_to_json(cut: Cut) -> dict[str, Any]:
    modes = {"rounding": cut.cast.rounding.value, "overflow": cut.cast.overflow.value, "divisor": cut.cast.divisor}
    ends = {"low": cut.low, "high": cut.high, "frac_bits": cut.frac_bits}
    return {**ends, "format": cut.cast.format.to_json(), **modes}


def _cut_from_json(data: dict[str, Any]) -> Cut:
    cast = Cast(
        FixedFormat.from_json(data["format"]),
        Rounding(data["rounding"]),
        Overflow(data["overflow"]),
        data["divisor"],
    )
    return Cut(low=data["low"], high=data["high"], frac_bits=data["frac_bits"], cast=cast)
