"""Inputs chosen to break things: corners, extremes, rounding ties, accumulators and tables driven to their edges.

Nothing here is drawn from data: the inputs are a function of the graph, so anyone gets the same ones. What is aimed at
(elements, accumulators, edges of ops) is chosen first, no more of it than inputs are asked for: memory is that of the
inputs and of some blocks of them, and the work is that of running the graph on a few times as many inputs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph, Lookup, MatMul, Op
from flow.ir.reference import port_dtype, run
from flow.ir.sums import Carrier

SEED = 20190204
SHARE = 4
"""At most 1/4 of the inputs put single elements at their extremes, 1/4 drive accumulators, 1/4 lie on edges."""
POOL, POOL_PER_INPUT = 1024, 2
"""Inputs of one generation of the search for edges: at most, and for each input that is asked for; responses are
measured on as many random ones."""
GENERATIONS, FEWEST_GENERATIONS, PRODUCTS = 12, 3, 1 << 33
"""Generations of the search behind the first: as many as take about so many products, within these ends."""
MOST_PLACES, MOST_CHANNELS, MOST_RUNS = 16, 32, 64
"""Positions, channels and table entries of one op that are searched for edges, evenly spread."""
SORTED = 1024
"""Inputs found by the search are put in order by so many of their first elements."""
BLOCK = 1 << 22
"""Elements of inputs that are worked on at a time."""
FAR = np.iinfo(np.int64).max
Aims = Mapping[str, NDArray[np.int64]]
"""Which edges are searched for: by op, with a suffix for the runs of its table, their numbers among its edges."""
RUNS = "/runs"


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
        (count, *port_shape), codes of the inputs' formats, in the smallest type that holds them.
    """
    rng = np.random.default_rng(SEED)
    pool = _joined(graph, (_random(graph, part, rng) for part in _parts(graph, min(POOL, POOL_PER_INPUT * count))))
    corners = corner_inputs(graph)
    drivers = _drivers(graph, pool, count // SHARE)
    aims = _aims(graph, corners, count)
    edges = _edge_inputs(graph, aims, _joined(graph, [corners, drivers]), len(pool), rng)
    edges = edges[_evenly(len(edges), count // SHARE)]
    chosen = _joined(graph, [corners, _extremes(graph, count // SHARE), drivers, edges])[:count]
    missing = count - len(chosen)
    sources = rng.integers(0, len(chosen), missing // 2)
    near = [_changed(chosen[sources[part]], graph, rng) for part in _parts(graph, len(sources))]
    on_edges = np.zeros(len(pool), np.int64)
    for part in _parts(graph, len(pool)):
        on_edges[part] = np.count_nonzero(_edge_distances(graph, pool[part], aims) == 0, axis=1)
    random = pool[np.argsort(-on_edges, kind="stable")[: missing - len(sources)]]
    more = (_random(graph, part, rng) for part in _parts(graph, missing - len(sources) - len(random)))
    return _joined(graph, [chosen, *near, random, *more])


def corner_inputs(graph: IntGraph) -> Codes:
    """Return all-min, all-max, zero, alternating and ramp inputs: int64 (7, *port_shape)."""
    low, high = graph.port_limits()
    order = np.arange(low.size).reshape(low.shape)
    odd = order % 2 == 1
    ramp = low + (order * 7919) % (high - low + 1)
    zero = np.zeros_like(low)
    return np.stack([low, high, zero, np.where(odd, low, high), np.where(odd, high, low), np.where(odd, 0, high), ramp])


# -- blocks of inputs


def _parts(graph: IntGraph, count: int) -> Iterator[slice]:
    """Yield `count` inputs block by block."""
    size = max(1, BLOCK // math.prod(graph.port_shape))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _joined(graph: IntGraph, blocks: Iterable[Codes]) -> Codes:
    """Return blocks of inputs as one array, in the smallest type that holds the codes of each input."""
    empty = np.zeros((0, *graph.port_shape), port_dtype(graph))
    return np.concatenate([empty, *(block.astype(empty.dtype) for block in blocks)])


def _random(graph: IntGraph, part: slice, rng: np.random.Generator) -> Codes:
    low, high = graph.port_limits()
    return rng.integers(low, high, (part.stop - part.start, *low.shape), endpoint=True)


# -- single elements and accumulators


def _extremes(graph: IntGraph, most: int) -> Codes:
    """Return inputs that are zero but for one element at its smallest or largest code, evenly spread."""
    size = math.prod(graph.port_shape)
    ends = np.concatenate([end.reshape(-1) for end in graph.port_limits() if end.any()])
    places = _evenly(len(ends), most)
    codes = np.zeros((len(places), size), np.int64)
    codes[np.arange(len(places)), places % size] = ends[places]
    return codes.reshape(-1, *graph.port_shape)


def _drivers(graph: IntGraph, pool: Codes, most: int) -> Codes:
    """Return inputs that push accumulators up and down.

    Each input element goes to the end that, over the random pool, moved the accumulator the wanted way (the sign of
    the covariance). For an op that reads the input directly that is the sign of its weight: the true extreme. For
    others saturation on the way may turn it round, so the pool's own extremes go along.
    """
    low, high = (limits.reshape(-1) for limits in graph.port_limits())
    flat, sums = pool.reshape(len(pool), -1), _accumulators(graph, pool)
    direct = {
        op.name: op.weight.codes
        for op in graph.ops
        if isinstance(op, MatMul) and op.kind == "dense" and op.inputs == (graph.ops[0].name,)
        if len(op.weight.codes) == low.size
    }
    aims = [
        (name, end, measured, channel)
        for name, of_op in sums.items()
        for measured in ((False,) if name in direct else (True, False))
        for end in (1, -1)
        for channel in range(of_op.shape[1])
    ]
    aims = [aims[i] for i in _evenly(len(aims), most)]
    codes = np.zeros((len(aims), low.size), flat.dtype)
    pushed = []
    for row, (name, end, measured, channel) in enumerate(aims):
        if measured:
            codes[row] = flat[(sums[name][:, channel] * end).argmax()]
        elif name in direct:
            codes[row] = np.where(direct[name][:, channel] * end > 0, high, low)
        else:
            pushed.append(row)
    if pushed:
        wanted = np.stack([sums[aims[row][0]][:, aims[row][3]] * aims[row][1] for row in pushed], axis=1)
        wanted -= wanted.mean(axis=0)
        for start in range(0, low.size, step := max(1, BLOCK // len(pool))):
            part = slice(start, start + step)
            centred = flat[:, part] - flat[:, part].mean(axis=0)
            codes[pushed, part] = np.where(wanted.T @ centred > 0, high[part], low[part])
    return codes.reshape(-1, *graph.port_shape)


def _accumulators(graph: IntGraph, pool: Codes) -> dict[str, Carrier]:
    """Return each dense or convolution op's exact sums, one position of the output: (samples, channels)."""
    parts: dict[str, list[Carrier]] = {}

    def observe(op: Op, exact: Carrier, frac_bits: int) -> None:
        if isinstance(op, MatMul):
            positions = exact.reshape(len(exact), -1, op.shape[-1])
            parts.setdefault(op.name, []).append(positions[:, positions.shape[1] // 2].astype(np.float64))

    run(graph, pool, observe, keep=())
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


# -- edges


def _aims(graph: IntGraph, known: Codes, most: int) -> Aims:
    """Return which edges are searched for: all of them, or `most` by chance."""
    counts = {name: distances.shape[1] for name, distances in _distances(graph, known).items()}
    total = sum(counts.values())
    chosen = np.arange(total)
    if total > most:
        chosen = np.sort(np.random.default_rng(SEED).permutation(total)[:most])
    ends = np.cumsum(list(counts.values()))
    starts = np.searchsorted(chosen, ends - list(counts.values()))
    stops = np.searchsorted(chosen, ends)
    return {
        name: chosen[start:stop] - (end - count)
        for (name, count), end, start, stop in zip(counts.items(), ends, starts, stops, strict=True)
        if stop > start
    }


def _edge_inputs(graph: IntGraph, aims: Aims, known: Codes, population: int, rng: np.random.Generator) -> Codes:
    """Return the inputs that come nearest to the edges aimed at: the fittest of several generations, in order.

    The first generation is what is known, with random, sparse and extreme inputs; each later one changes one element
    of the fittest before it.
    """
    products = 1 + sum(op.weight.codes.size * math.prod(op.shape[:-1]) for op in graph.ops if isinstance(op, MatMul))
    generations = max(FEWEST_GENERATIONS, min(GENERATIONS, PRODUCTS // (products * population)))
    edges = sum(map(len, aims.values()))
    fittest, nearest = np.repeat(known[:1], edges, axis=0), np.full(edges, FAR)

    def meet(codes: Codes) -> None:
        distances = _edge_distances(graph, codes, aims)
        champions = distances.argmin(axis=0)
        reached = distances[champions, np.arange(edges)]
        better = reached < nearest
        fittest[better], nearest[better] = codes[champions[better]], reached[better]

    if not edges:
        return fittest
    for part in _parts(graph, len(known)):
        meet(known[part])
    for part in _parts(graph, population):
        meet(_first_generation(graph, part, rng))
    for _ in range(generations):
        for part in _parts(graph, population):
            meet(_changed(fittest[rng.integers(0, edges, part.stop - part.start)], graph, rng))
    distinct = {hashlib.sha256(codes.tobytes()).digest(): row for row, codes in enumerate(fittest)}
    fittest = fittest[list(distinct.values())]
    return fittest[np.lexsort(fittest.reshape(len(fittest), -1)[:, :SORTED][:, ::-1].T)]


def _first_generation(graph: IntGraph, part: slice, rng: np.random.Generator) -> Codes:
    """Return random inputs, in equal parts: any codes, few that are not zero, most at an end."""
    low, high = graph.port_limits()
    codes = _random(graph, part, rng)
    ends = np.where(rng.random(codes.shape) < 0.5, low, high)
    few = rng.random(codes.shape) < 2 / low.size
    numbers = np.arange(part.start, part.stop)
    sparse, extreme = numbers % 3 == 1, numbers % 3 == 2
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
    return np.where(places, other, codes).astype(codes.dtype)


def _edge_distances(graph: IntGraph, codes: Codes, aims: Aims) -> NDArray[np.int64]:
    """Return how far each sample is from each edge aimed at: (samples, edges), `FAR` where it is out of reach."""
    columns = [distances[:, aims[name]] for name, distances in _distances(graph, codes, aims).items()]
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(codes), 0), np.int64)


def _distances(graph: IntGraph, codes: Codes, aims: Aims | None = None) -> dict[str, NDArray[np.int64]]:
    """Return the distances from edges of ops and of tables' runs, those that are aimed at: name -> (samples, edges)."""
    parts: dict[str, list[NDArray[np.int64]]] = {}

    def observe(op: Op, exact: Carrier, frac_bits: int) -> None:
        if not isinstance(op, Input) and (aims is None or op.name in aims):
            parts.setdefault(op.name, []).append(_cast_distances(op, _sampled(exact), frac_bits))

    tables = [op for op in graph.ops if isinstance(op, Lookup) and (aims is None or op.name + RUNS in aims)]
    read = run(graph, codes, observe, keep={op.inputs[0] for op in tables}).codes
    found = {name: np.concatenate(blocks) for name, blocks in parts.items()}
    return found | {op.name + RUNS: _table_distances(op, _sampled(read[op.inputs[0]])) for op in tables}


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
    starts = op.starts[..., _evenly(op.starts.shape[-1], MOST_RUNS)].T
    if op.starts.ndim > 1:
        starts = starts[:, _evenly(starts.shape[1], MOST_CHANNELS)]
    edges = [edge for start in starts for edge in (start, start - 1)]
    return np.stack([np.abs(x - edge).min(axis=(1, 2)) for edge in edges], axis=1)


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` things, evenly spread."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)
