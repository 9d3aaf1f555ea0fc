"""Which reuse factors hls4ml takes as they are: it changes others, with a printed line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flow.errors import UnsupportedError
from flow.ir.graph import IntGraph, MatMul
from flow.target import Target


def reuse_refusals(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield which reuse factors hls4ml would change, and the way out.

    Source: `FPGABackend._validate_reuse_factor` of hls4ml 1.3.0.
    """
    sizes = {op.name: op.matrix().shape for op in graph.ops if isinstance(op, MatMul)}
    for name, _ in target.reuse_factors:
        if name not in sizes:
            yield UnsupportedError(
                f"no op '{name}' to give a reuse factor", named=name, remedy=f"use {', '.join(sizes)}"
            )
    if target.strategy != "Resource":
        return
    for name, (n_in, n_out) in sizes.items():
        if not _legal(n_in, n_out, target.reuse(name)):
            legal = ", ".join(map(str, legal_reuse_factors(n_in, n_out)))
            yield UnsupportedError(
                f"op '{name}' ({n_in} x {n_out}) cannot have reuse_factor {target.reuse(name)} with strategy Resource",
                named=name,
                remedy=f"give it one of its own, --reuse-factor {name}=N, with N one of {legal}",
            )


def legal_reuse_factors(n_in: int, n_out: int) -> Sequence[int]:
    """Return the reuse factors, ascending, that strategy Resource takes as they are for an op of this size."""
    products = n_in * n_out
    low = [factor for factor in range(1, math.isqrt(products) + 1) if products % factor == 0]
    return [factor for factor in sorted({*low, *(products // factor for factor in low)}) if _legal(n_in, n_out, factor)]


def _legal(n_in: int, n_out: int, factor: int) -> bool:
    products = n_in * n_out
    whole_columns = math.ceil(products / min(n_in, factor)) % n_out == 0 or factor >= n_in
    return whole_columns and (factor % n_in == 0 or factor < n_in) and products % factor == 0
