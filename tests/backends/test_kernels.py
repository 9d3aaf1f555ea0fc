"""Kernels of `nnet_flow.h`: constant division, stream schedules, wiring of branches, and what is refused."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import zoo
from conftest import Simulate, needs_compiler
from edits import edit
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, inputs, s, u

from flow.backends.hls4ml.csim import compile_together
from flow.backends.hls4ml.emit import emit
from flow.backends.hls4ml.kernels import divide
from flow.backends.hls4ml.readback import findings
from flow.cost.schedules import gather_schedule, pool_schedule
from flow.errors import ToolFailedError, UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Overflow, Rounding
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.ir.tables import TABLE_ENTRIES
from flow.ir.windows import Window
from flow.project import Project
from flow.target import Target

STREAM = Target(io_type="io_stream")


@given(st.integers(-(2**40), 2**40), st.integers(0, 2**40), st.integers(1, 5000), st.data())
def test_a_division_is_exact_in_all_its_range(low: int, size: int, denominator: int, data: st.DataObject) -> None:
    high = low + size
    how = divide(low, high, denominator)
    edges = [
        low,
        high,
        *(k * denominator + d for k in (low // denominator + 1, high // denominator) for d in (-1, 0, 1)),
    ]
    for n in [*(edge for edge in edges if low <= edge <= high), data.draw(st.integers(low, high))]:
        moved = n + how.offset * denominator
        assert moved >= 0
        assert (moved * how.reciprocal >> how.shift) - how.offset == n // denominator
        held = (n, moved, 2 * denominator)
        assert all(-(1 << how.numerator_bits - 1) <= each < 1 << how.numerator_bits - 1 for each in held)


def run_gather(source: np.ndarray, place: np.ndarray, word: int, sizes: list[int], words: list[int]) -> list[int]:
    """Run a schedule on streams whose codes are 1000 * input + position; return the codes written."""
    how = gather_schedule(source, place, word, sizes, words)
    starts = np.cumsum([0, *how.depths[:-1]])
    buffer = np.full((sum(how.depths), max(sizes)), -1)
    read, written = [0] * len(sizes), []
    for step in how.steps.tolist():
        for number, size in enumerate(sizes):
            if step >> number & 1:
                codes = 1000 * number + read[number] * size + np.arange(size)
                buffer[starts[number] + read[number] % how.depths[number], :size] = codes
                read[number] += 1
        if step >> len(sizes) & 1:
            part = slice(len(written), len(written) + word)
            rows, columns = how.row[part], how.column[part]
            written += np.where(rows < 0, -1, buffer[rows, columns]).tolist()
    assert read == words, "every word is read, once"
    return written


@given(st.data())
def test_a_gather_schedule_writes_what_it_should(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    words = [data.draw(st.integers(1, 5)) for _ in sizes]
    word, count = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    picks = []
    for _ in range(word * count):
        number = data.draw(st.integers(-1, len(sizes) - 1))
        picks.append((number, data.draw(st.integers(0, sizes[number] * words[number] - 1)) if number >= 0 else 0))
    source, place = np.array(picks, np.int64).T
    expected = np.where(source < 0, -1, 1000 * source + place).tolist()
    assert run_gather(source, place, word, sizes, words) == expected


def test_a_join_in_order_waits_for_nothing() -> None:
    """Channels joined position by position need one word of each input at a time."""
    order = np.arange(4)
    source, place = np.repeat([[0, 0, 1]], 4, axis=0).reshape(-1), np.stack([2 * order, 2 * order + 1, order], 1)
    how = gather_schedule(source, place.reshape(-1), 3, [2, 1], [4, 4])
    assert how.depths == (1, 1) and how.steps.tolist() == [7, 7, 7, 7]


@pytest.mark.parametrize(("window", "strides", "padding"), [
    ((2, 2), (2, 2), (0, 0, 0, 0)),
    ((3, 3), (1, 1), (1, 1, 1, 1)),
    ((3, 2), (2, 3), (2, 0, 0, 1)),
    ((1, 3), (4, 1), (0, 0, 2, 2)),
    ((5, 6), (1, 1), (0, 0, 0, 0)),
])  # fmt: skip
def test_a_pool_schedule_keeps_each_window_apart(window: tuple, strides: tuple, padding: tuple) -> None:
    shape = (5, 6, 1)
    pixels = Window.with_padding(window, strides, padding).places(shape)
    how = pool_schedule(pixels, 30)
    rows: dict[int, list[int]] = {}
    read = written = 0
    for step in how.steps.tolist():
        if step & 1:
            for target in how.targets[read][how.targets[read] >= 0].tolist():
                rows[target >> 1] = [read] if target & 1 else [*rows[target >> 1], read]
            read += 1
        if step & 2:
            assert rows[written % how.depth] == sorted(pixels[written][pixels[written] >= 0].tolist())
            written += 1
    assert read == 30 and written == len(pixels)


def test_pooling_without_overlap_keeps_one_row_of_windows() -> None:
    how = pool_schedule(Window((2, 2), (2, 2), ((0, 0), (0, 0))).places((8, 8, 1)), 64)
    assert how.depth == 4 and how.targets.shape == (64, 1)


def branches() -> IntGraph:
    """Return two ports that meet in two merges, one of them an output that is read."""
    net = Net((2, 2), s(4), "branches").port("other", (2, 2), u(3)).mark("x").merge("subtract", "other").mark("a")
    return lower(net.back("other").merge("maximum", "x").requantize(u(2)).merge("add", "a").leave("a").graph())


both = pytest.mark.parametrize("target", [Target(), STREAM], ids=["parallel", "stream"])


@both
def test_crossed_wires_are_found(target: Target) -> None:
    graph, top = branches(), "firmware/branches.cpp"
    project = emit(graph, target)
    assert list(findings(project, graph, target)) == []
    text = project.text(top)
    first, second = re.search(r"merge_codes<\w+, \w+>\(\w+, (\w+), (\w+)\); // merge_2", text).groups()  # type: ignore[union-attr]
    swapped = edit(project, top, rf"{first}, {second}\); // merge_2", f"{second}, {first}); // merge_2")
    seen = list(findings(swapped, graph, target))
    assert {finding.op for finding in seen} == {"merge_2"} and "what it reads" in str(seen[0])


@both
def test_what_a_port_gives_is_checked(target: Target) -> None:
    graph = branches()
    honest = emit(graph, target)
    other = IntGraph(name=graph.name, ops=graph.ops, outputs=graph.outputs[::-1])
    assert any("what its port gives" in str(finding) for finding in findings(honest, other, target))


def test_a_stream_read_twice_is_found() -> None:
    graph = branches()
    project = emit(graph, STREAM)
    text = project.text("firmware/branches.cpp")
    clones = re.search(r"clone_stream<[^>]*>\(port_in, (\w+), (\w+)\)", text).groups()  # type: ignore[union-attr]
    lines = [line for line in text.splitlines() if f"{clones[1]}, " in line or f", {clones[1]})" in line]
    assert len(lines) == 2  # the clone writes it, a merge reads it
    crossed = edit(project, "firmware/branches.cpp", re.escape(lines[1]), lines[1].replace(clones[1], clones[0]))
    seen = [str(finding) for finding in findings(crossed, graph, STREAM)]
    assert any(f"how often {clones[0]} is read is 2" in each for each in seen)
    assert any(f"how often {clones[1]} is read is 0" in each for each in seen)


@needs_compiler
def test_csim_complains_of_words_left_in_a_stream(simulate: Simulate) -> None:
    """Codes alone would not tell: the last words of a crop are read only to be dropped."""
    graph = lower(Net((4, 2), u(3), "cropped").relu().gather(lambda x: x[:2]).graph())
    project = emit(graph, STREAM)
    lazy = edit(project, "firmware/parameters.h", r"n_step = 4;", "n_step = 2;")
    with pytest.raises(ToolFailedError, match="csim of cropped complained: WARNING: Hls::stream"):
        simulate(lazy, graph, inputs(graph, 2))


def many_readers() -> IntGraph:
    net = Net((2, 2), s(4), "many").relu().mark("a")
    for number in range(9):
        net.back("a").requantize(s(3 + number % 3)).mark(f"r{number}")
    return lower(net.merge("add", *(f"r{number}" for number in range(8))).leave("a", "a").graph())


@needs_compiler
def test_a_stream_of_many_readers(simulate: Simulate) -> None:
    """hls4ml's clone_stream ends at 7."""
    graph = many_readers()
    project = emit(graph, STREAM)
    assert project.text("firmware/many.cpp").count("clone_stream<") == 2
    given = inputs(graph, 50)
    expected, found = reference.run(graph, given), simulate(project, graph, given)
    assert all(np.array_equal(found.codes[op.name], expected.codes[op.name]) for op in graph.ops)


def test_a_step_function_is_a_table_or_comparisons() -> None:
    for starts, function in (
        ([0, 5], "clamped_table"),
        ([0, 1, TABLE_ENTRIES - 1], "clamped_table"),
        ([0, 1, 1 + TABLE_ENTRIES], "runs"),
    ):
        graph = lower(Net((2,), u(12)).lookup(starts, range(len(starts)), u(2)).graph())
        assert f"nnet::flow::{function}<config2> operation" in emit(graph, Target()).text("firmware/parameters.h")


def test_refusals() -> None:
    joined = Net((2, 1), u(2))
    for number in range(63):
        joined.port(f"p{number}", (2, 1), u(2))
    joined.gather(lambda *each: np.concatenate(each, axis=-1), *(f"p{number}" for number in range(63)))
    with pytest.raises(UnsupportedError, match=r"joins 64 inputs; a stream joins 62 at most: .* or use io_parallel"):
        emit(lower(joined.graph()), STREAM)
    emit(lower(joined.graph()), Target())


def divided(rounding: Rounding, overflow: Overflow) -> Project:
    """Return the graph of one input over 3, 6, 7 and 12, onto coarser and finer grids."""
    net = Net((4,), s(6, 2), f"over_{rounding.name}_{overflow.name}".lower()).mark("x")
    for number, (fmt, divisor) in enumerate(((s(3, 1), 3), (u(3), 6), (s(4, 5), 7), (s(2, 1), 12))):
        net.back("x").requantize(fmt, rounding, overflow, divisor).mark(f"d{number}")
    return lower(net.leave("d0", "d1", "d2").graph())


@needs_compiler
def test_divisions_in_every_mode(tmp_path) -> None:
    graphs = [divided(rounding, overflow) for rounding, overflow in product(Rounding, Overflow)]
    simulations = compile_together([emit(graph, Target()) for graph in graphs], graphs, tmp_path)
    for graph, simulation in zip(graphs, simulations, strict=True):
        codes = np.arange(-32, 32).reshape(16, 4)
        expected, found = reference.run(graph, codes), simulation(codes)
        assert all(np.array_equal(found.codes[op.name], expected.codes[op.name]) for op in graph.ops), graph.name


def test_zoo_holds_every_kernel() -> None:
    """Each kernel is compiled and run by the zoo's checks."""
    kinds = {op.kind for name in zoo.ROWS for op in lower(zoo.row(name)).ops}
    assert kinds >= {"merge", "gather", "lookup", "softmax", "sumpool", "leaky_relu", "maxpool", "batchnorm"}
