"""Inputs chosen to break things: corners, extremes, rounding ties, accumulators driven to their ends.

Nothing here is drawn from data: the inputs are a function of the graph, so anyone gets the same ones.
"""

from __future__ import annotations

import numpy as np

from flow.fixed import Codes
from flow.graph import IntGraph, MatMul, Op
from flow.reference import Carrier, run

SEED = 20190204
EXTREMES_SHARE, DRIVERS_SHARE = 4, 2
"""At most 1/4 of the inputs put single elements at their extremes; at most 1/2 drive accumulators."""
POOL = 1024
"""Random inputs from which those with most ties and clamped values are kept, and responses are measured."""


def adversarial_inputs(graph: IntGraph, count: int) -> Codes:
    """Return `count` input codes that visit the edges of every op.

    In this order: all-min, all-max, zero, alternating, ramp; each element alone at its smallest and largest code (as
    many as fit); inputs that push each accumulator towards both ends (exact for the first op; by measured response
    for later ones); the random inputs with most rounding ties and clamped values; random inputs.

    Args:
        graph: a lowered graph.
        count: how many, at least 16.

    Returns:
        int64 (count, *port_shape), codes of the inputs' formats.
    """
    rng = np.random.default_rng(SEED)
    low, high = graph.port_limits()
    pool = rng.integers(low, high, (POOL, *low.shape), endpoint=True)
    corners = corner_inputs(graph)
    extremes = _spread(_single_extremes(low, high), count // EXTREMES_SHARE)
    drivers = _spread(_drivers(graph, pool), count // DRIVERS_SHARE)
    edges = pool[np.argsort(-_edge_hits(graph, pool), kind="stable")]
    chosen = np.concatenate([corners, extremes, drivers, edges])[:count]
    missing = count - len(chosen)
    more = rng.integers(low, high, (missing, *low.shape), endpoint=True)
    return np.concatenate([chosen, more])


def corner_inputs(graph: IntGraph) -> Codes:
    """Return all-min, all-max, zero, alternating and ramp inputs: int64 (7, *port_shape)."""
    low, high = graph.port_limits()
    order = np.arange(low.size).reshape(low.shape)
    odd = order % 2 == 1
    ramp = low + (order * 7919) % (high - low + 1)
    zero = np.zeros_like(low)
    return np.stack([low, high, zero, np.where(odd, low, high), np.where(odd, high, low), np.where(odd, 0, high), ramp])


def _single_extremes(low: Codes, high: Codes) -> Codes:
    """Return each element alone at its smallest, then at its largest code: (2 * size, *port_shape)."""
    each = np.eye(low.size, dtype=np.int64).reshape(-1, *low.shape)
    return np.concatenate([each * end for end in (low, high) if end.any()])


def _drivers(graph: IntGraph, pool: Codes) -> Codes:
    """Return inputs that push every accumulator up and down.

    Each input element goes to the end that, over the random pool, moved the accumulator the wanted way (the sign of
    the covariance). For an op that reads the input directly that is the sign of its weight: the true extreme. For
    others saturation on the way may turn it round, so the pool's own extremes go along.
    """
    low, high = (limits.reshape(-1) for limits in graph.port_limits())
    flat = pool.reshape(len(pool), -1).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    found = []
    for name, sums in _accumulators(graph, pool).items():
        reader = graph[name]
        assert isinstance(reader, MatMul)
        if reader.inputs == (graph.ops[0].name,) and reader.kind == "dense" and len(reader.weight) == low.size:
            response = reader.weight.astype(np.float64)
        else:
            response = centred.T @ (sums - sums.mean(axis=0))
            found += [flat[sums.argmax(axis=0)], flat[sums.argmin(axis=0)]]
        for sign in (1, -1):
            towards_max = response.T * sign > 0
            found.append(np.where(towards_max, high, low))
    if not found:
        return np.zeros((0, *graph.port_shape), np.int64)
    return np.concatenate(found).astype(np.int64).reshape(-1, *graph.port_shape)


def _accumulators(graph: IntGraph, pool: Codes) -> dict[str, Carrier]:
    """Return each dense or convolution op's exact sums, one position of the output: (samples, channels)."""
    parts: dict[str, list[Carrier]] = {}

    def keep(op: Op, exact: Carrier, frac_bits: int) -> None:
        if isinstance(op, MatMul):
            positions = exact.reshape(len(exact), -1, op.shape[-1])
            parts.setdefault(op.name, []).append(positions[:, positions.shape[1] // 2].astype(np.float64))

    run(graph, pool, keep)
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}


def _edge_hits(graph: IntGraph, pool: Codes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return, per sample, how many results lie exactly on a rounding tie or are clamped."""
    hits: list[Carrier] = []
    ops: list[str] = []

    def count(op: Op, exact: Carrier, frac_bits: int) -> None:
        shift = frac_bits - op.format.frac_bits
        scaled = exact.astype(np.float64) * 2.0**-shift
        ties = (scaled - np.floor(scaled) == 0.5) if shift > 0 else np.zeros(scaled.shape, bool)
        edges = (np.rint(scaled) == op.format.max_code) | (np.rint(scaled) == op.format.max_code + 1)
        hits.append((ties | edges).reshape(len(scaled), -1).sum(axis=1))
        ops.append(op.name)

    run(graph, pool, count)
    per_batch = len(set(ops)) or 1
    batches = [sum(hits[i : i + per_batch]) for i in range(0, len(hits), per_batch)]
    return np.concatenate(batches).astype(np.int64) if batches else np.zeros(len(pool), np.int64)


def _spread(codes: Codes, count: int) -> Codes:
    """Return at most `count` rows, evenly spread."""
    if len(codes) <= count:
        return codes
    return codes[np.linspace(0, len(codes) - 1, count).astype(np.int64)]
