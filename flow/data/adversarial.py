"""Inputs chosen to break things: corners, extremes, rounding ties, accumulators and tables driven to their edges.

Nothing here is drawn from data: the inputs are a function of the graph, so anyone gets the same ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph, Lookup, MatMul, Op
from flow.ir.reference import run
from flow.ir.sums import Carrier

SEED = 20190204
SHARE = 4
"""At most 1/4 of the inputs put single elements at their extremes, 1/4 drive accumulators, 1/4 lie on edges."""
POOL = 1024
"""Inputs of one generation of the search for edges; responses are measured on as many random ones."""
GENERATIONS, FEWEST_GENERATIONS, PRODUCTS = 12, 3, 1 << 33
"""Generations of the search: as many as take about so many products, within these ends."""
MOST_PLACES, MOST_CHANNELS, MOST_RUNS = 16, 32, 64
"""Positions, channels and table entries of one op that are searched for edges, evenly spread."""
FAR = np.iinfo(np.int64).max


def adversarial_inputs(graph: IntGraph, count: int) -> Codes:
    """Return `count` input codes that visit the edges of every op.

    In this order: all-min, all-max, zero, alternating, ramp; each element alone at its smallest and largest code (as
    many as fit); inputs that push each accumulator towards both ends (exact for the first op; by measured response
    for later ones); inputs found to lie on the edges of each op's channels, or next to them (rounding ties, ends of the
    output format, extremes, ends of a table's runs); all these with some elements changed; random inputs, those with
    most results on edges first.

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
    ones = np.eye(low.size, dtype=np.int64).reshape(-1, *low.shape)
    extremes = _spread(np.concatenate([ones * end for end in (low, high) if end.any()]), count // SHARE)
    drivers = _spread(_drivers(graph, pool), count // SHARE)
    edges = _spread(_edge_inputs(graph, np.concatenate([corners, drivers]), rng), count // SHARE)
    chosen = np.concatenate([corners, extremes, drivers, edges])[:count]
    missing = count - len(chosen)
    near = _changed(chosen[rng.integers(0, len(chosen), missing // 2)], graph, rng)
    on_edges = np.count_nonzero(_edge_distances(graph, pool) == 0, axis=1)
    random = pool[np.argsort(-on_edges, kind="stable")][: missing - len(near)]
    more = rng.integers(low, high, (missing - len(near) - len(random), *low.shape), endpoint=True)
    return np.concatenate([chosen, near, random, more])


def corner_inputs(graph: IntGraph) -> Codes:
    """Return all-min, all-max, zero, alternating and ramp inputs: int64 (7, *port_shape)."""
    low, high = graph.port_limits()
    order = np.arange(low.size).reshape(low.shape)
    odd = order % 2 == 1
    ramp = low + (order * 7919) % (high - low + 1)
    zero = np.zeros_like(low)
    return np.stack([low, high, zero, np.where(odd, low, high), np.where(odd, high, low), np.where(odd, 0, high), ramp])


def _drivers(graph: IntGraph, pool: Codes) -> Codes:
    """Return inputs that push every accumulator up and down.

    Each input element goes to the end that, over the random pool, moved the accumulator the wanted way (the sign of
    the covariance). For an op that reads the input directly that is the sign of its weight: the true extreme. For
    others saturation on the way may turn it round, so the pool's own extremes go along.
    """
    low, high = (limits.reshape(-1) for limits in graph.port_limits())
    flat = pool.reshape(len(pool), -1).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    samples = []
    for name, sums in _accumulators(graph, pool).items():
        reader = graph[name]
        assert isinstance(reader, MatMul)
        if reader.inputs == (graph.ops[0].name,) and reader.kind == "dense" and len(reader.weight.codes) == low.size:
            response = reader.weight.codes.astype(np.float64)
        else:
            response = centred.T @ (sums - sums.mean(axis=0))
            samples += [flat[sums.argmax(axis=0)], flat[sums.argmin(axis=0)]]
        samples += [np.where(response.T * sign > 0, high, low) for sign in (1, -1)]
    if not samples:
        return np.zeros((0, *graph.port_shape), np.int64)
    return np.concatenate(samples).astype(np.int64).reshape(-1, *graph.port_shape)


def _accumulators(graph: IntGraph, pool: Codes) -> dict[str, Carrier]:
    """Return each dense or convolution op's exact sums, one position of the output: (samples, channels)."""
    parts: dict[str, list[Carrier]] = {}

    def keep(op: Op, exact: Carrier, frac_bits: int) -> None:
        if isinstance(op, MatMul):
            positions = exact.reshape(len(exact), -1, op.shape[-1])
            parts.setdefault(op.name, []).append(positions[:, positions.shape[1] // 2].astype(np.float64))

    run(graph, pool, keep)
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}


def _edge_inputs(graph: IntGraph, known: Codes, rng: np.random.Generator) -> Codes:
    """Return the inputs that come nearest to each edge of each op: the fittest of several generations.

    The first generation is what is known, with random, sparse and extreme inputs; each later one changes one element
    of the fittest before it.
    """
    products = 1 + sum(op.weight.codes.size * math.prod(op.shape[:-1]) for op in graph.ops if isinstance(op, MatMul))
    generation = np.concatenate([known, _first_generation(graph, POOL, rng)])
    fittest, nearest = generation[:0], np.zeros((0,), np.int64)
    for _ in range(max(FEWEST_GENERATIONS, min(GENERATIONS, PRODUCTS // (products * POOL)))):
        distances = _edge_distances(graph, generation)
        champions = distances.argmin(axis=0)
        reached = distances[champions, np.arange(len(champions))]
        if not len(fittest):
            fittest, nearest = generation[champions], reached
        else:
            better = reached < nearest
            fittest[better], nearest[better] = generation[champions[better]], reached[better]
        if not len(fittest):
            break
        generation = _changed(fittest[rng.integers(0, len(fittest), POOL)], graph, rng)
    return np.unique(fittest, axis=0)


def _first_generation(graph: IntGraph, count: int, rng: np.random.Generator) -> Codes:
    """Return random inputs, in equal parts: any codes, few that are not zero, most at an end."""
    low, high = graph.port_limits()
    codes = rng.integers(low, high, (count, *low.shape), endpoint=True)
    ends = np.where(rng.random(codes.shape) < 0.5, low, high)
    few = rng.random(codes.shape) < 2 / low.size
    sparse, extreme = np.arange(count) % 3 == 1, np.arange(count) % 3 == 2
    codes[sparse] *= few[sparse]
    codes[extreme] = np.where(rng.random(codes[extreme].shape) < 0.8, ends[extreme], codes[extreme])
    return codes


def _changed(codes: Codes, graph: IntGraph, rng: np.random.Generator) -> Codes:
    """Return inputs with one element or some changed: by one step, to an end, or to any code."""
    low, high = graph.port_limits()
    step = rng.choice([-1, 1], codes.shape)
    choices = [codes + step, np.where(step > 0, low, high), rng.integers(low, high, codes.shape, endpoint=True)]
    other = np.clip(np.choose(rng.integers(0, 3, codes.shape), choices), low, high)
    share = rng.choice([1, 1, 2, 4], len(codes)).reshape(-1, *(1,) * low.ndim) / low.size
    places = rng.random(codes.shape) < share
    one = rng.integers(0, low.size, len(codes))
    places.reshape(len(codes), low.size)[np.arange(len(codes)), one] = True
    return np.where(places, other, codes)


def _edge_distances(graph: IntGraph, codes: Codes) -> NDArray[np.int64]:
    """Return how far each sample is from each edge of each op: (samples, edges), `FAR` where it is out of reach."""
    parts: dict[str, list[NDArray[np.int64]]] = {}

    def keep(op: Op, exact: Carrier, frac_bits: int) -> None:
        if not isinstance(op, Input):
            parts.setdefault(op.name, []).append(_cast_distances(op, _sampled(exact), frac_bits))

    result = run(graph, codes, keep)
    columns = [np.concatenate(chunks) for chunks in parts.values()]
    tables = [op for op in graph.ops if isinstance(op, Lookup)]
    columns += [_table_distances(op, _sampled(result.codes[op.inputs[0]])) for op in tables]
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(codes), 0), np.int64)


def _sampled(tensor: Carrier) -> NDArray[np.int64]:
    """Return some positions and channels of a tensor: int64 (samples, positions, channels)."""
    flat = tensor.reshape(len(tensor), -1, tensor.shape[-1])
    places, channels = (_evenly(n, most) for n, most in zip(flat.shape[1:], (MOST_PLACES, MOST_CHANNELS), strict=True))
    return flat[:, places][:, :, channels].astype(np.int64)


def _cast_distances(op: Op, exact: NDArray[np.int64], frac_bits: int) -> NDArray[np.int64]:
    """Return, channel by channel, the distances of exact results from what their cast treats apart: (samples, edges).

    Ties above and below zero, to an even and to an odd code; the results next to ties and to codes; the codes at both
    ends of the format and those beyond; and the extremes.
    """
    dropped = frac_bits - op.format.frac_bits
    step = op.cast.divisor << min(max(dropped, 0), 62 - op.cast.divisor.bit_length())
    raised = max(-dropped, 0)
    floor, rest = np.divmod(exact, step)
    edges = [exact, -exact]
    if step > 1:
        beyond, odd, negative = 2 * rest - step, floor % 2 == 1, exact < 0
        for of_sign in (negative, ~negative):
            for of_parity in (odd, ~odd):
                edges.append(np.where(of_sign & of_parity, np.abs(beyond), FAR))
        edges += [np.where(beyond > 0, beyond, FAR), np.where(beyond < 0, -beyond, FAR), rest, step - rest]
    for end in (op.format.min_code, op.format.max_code):
        outside = end + (1 if end > 0 else -1)
        edges += [np.abs(floor - (end >> raised)), np.abs(floor - (outside >> raised))]
    return np.concatenate([edge.min(axis=1) for edge in edges], axis=1)


def _table_distances(op: Lookup, x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distances of codes from the first and the last code of a table's runs: (samples, edges)."""
    starts = op.starts[_evenly(len(op.starts), MOST_RUNS)]
    flat = x.reshape(len(x), -1)
    return np.stack([np.abs(flat - edge).min(axis=1) for start in starts for edge in (start, start - 1)], axis=1)


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` things, evenly spread."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def _spread(codes: Codes, count: int) -> Codes:
    """Return at most `count` rows, evenly spread."""
    return codes[_evenly(len(codes), count)]
