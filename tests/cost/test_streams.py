"""Streams: what kernels a graph has, how deep FIFOs must be, and that nothing that runs side by side gets stuck."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo
from conftest import needs_compiler
from fixtures_cli import flow, run_directories
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, inputs, s, u

from flow.backends.hls4ml import threaded
from flow.backends.hls4ml.emit import emit
from flow.backends.hls4ml.project_text import read_depths
from flow.backends.hls4ml.readback import findings
from flow.cost import fifos as fifo_module
from flow.cost.fifos import PIPELINE_STEPS, Fifo, fifos, needed_depths, simulate
from flow.cost.streams import Kind, Process, processes, streams
from flow.errors import ToolFailedError, UnsupportedError
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import Target

STREAM = Target(io_type="io_stream")
every_row = pytest.mark.parametrize("name", zoo.ROWS)


def running(graph: IntGraph) -> tuple[Process, ...]:
    return processes(graph, streams(graph))


def by_chance(
    network: Sequence[Process], depths: Mapping[str, int], late: Mapping[str, int], rng: random.Random, samples: int
) -> bool:
    """Say whether a run ends in which chance alone decides who takes the next step: another simulator, a plain one."""
    level = dict.fromkeys(depths, 0)
    todo = {each.name: list(each.late(late.get(each.name, 0))) * samples for each in network}
    while True:
        can = []
        for each in network:
            if todo[each.name]:
                step, write = todo[each.name][0], 1 << len(each.reads)
                read = [name for bit, name in enumerate(each.reads) if name is not None and step >> bit & 1]
                wrote = each.writes if step & write else ()
                if all(level[name] for name in read) and all(level[name] < depths[name] for name in wrote):
                    can.append((each.name, read, wrote))
        if not can:
            return not any(todo.values())
        name, read, wrote = rng.choice(can)
        del todo[name][0]
        for stream in read:
            level[stream] -= 1
        for stream in wrote:
            level[stream] += 1


# the kernels


def test_kernels_of_a_residual() -> None:
    network = streams(lower(zoo.row("residual")))
    assert [(each.kind, each.name, each.reads, each.writes, each.shape) for each in network.kernels] == [
        (Kind.PORT, "port", (), ("port",), (5, 5, 2)),
        (Kind.PAD, "pad_conv_1", ("port",), ("pad_conv_1",), (7, 7, 2)),
        (Kind.OP, "conv_1", ("pad_conv_1",), ("conv_1",), (5, 5, 3)),
        (Kind.CLONE, "clone_conv_1", ("conv_1",), ("clone_conv_1_1", "clone_conv_1_2"), (5, 5, 3)),
        (Kind.PAD, "pad_conv_4", ("clone_conv_1_1",), ("pad_conv_4",), (7, 7, 3)),
        (Kind.OP, "conv_4", ("pad_conv_4",), ("conv_4",), (5, 5, 3)),
        (Kind.PAD, "pad_conv_7", ("conv_4",), ("pad_conv_7",), (7, 7, 3)),
        (Kind.OP, "conv_7", ("pad_conv_7",), ("conv_7",), (5, 5, 3)),
        (Kind.OP, "merge_9", ("conv_7", "clone_conv_1_2"), ("merge_9",), (5, 5, 3)),
    ]
    assert network.ports == ("merge_9",)


def test_many_readers_take_several_clones() -> None:
    net = Net((2,), s(4)).requantize(s(3)).mark("x")
    net = net.merge("add", *["x"] * 9)
    clones = [each for each in streams(net.graph()).kernels if each.kind is Kind.CLONE]
    assert [len(each.writes) for each in clones] == [7, 4]
    assert clones[1].reads == (clones[0].writes[-1],)


def test_an_op_that_nothing_reads() -> None:
    net = Net((2,), s(4)).requantize(s(3)).mark("x").relu().back("x").requantize(s(2))
    with pytest.raises(UnsupportedError, match=r"op 'relu_2' is read by nothing; in io_stream it would never be done"):
        streams(net.graph())


STEPS = {
    "dense_twice": {"dense_1": "B", "dense_2": "B"},
    "dense_on_a_sequence": {"dense_1": "BBBB"},
    "flatten": {"dense_2": "rrrrrB"},
    "conv1d": {"conv_1": "rrBBBBB"},
    "conv1d_strided_same": {"pad_conv_1": "wBBBBBBBBw", "conv_1": "rrrBrrBrrB"},
    "conv_pointwise_strided": {"conv_1": "BrBrB" + "rrrrr" + "BrBrB" + "rrrrr" + "BrBrB"},
    "pool_1d": {"maxpool_1": "rBrBrBrBB"},
    "upsample": {"gather_1": ("Bww" * 2 + "Bww" + "w" * 9) * 2},
    "reshape": {"reshape_1": "BwBwBwBw"},
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    """r: a word is read; w: one is written; B: both."""
    letters = {1: "r", 2: "w", 3: "B"}
    graph = lower(zoo.row(name))
    found = {each.name: "".join(letters[step] for step in each.steps) for each in running(graph)}
    assert STEPS[name].items() <= found.items()


# how deep


NEEDED = {  # with kernels that write at once, and with any pipelines of 16 steps
    "residual": {"clone_conv_1_2": (13, 25)},
    "residual_twice": {"clone_port_2": (6, 16), "clone_merge_3_2": (6, 16)},
    "branch_strided": {"conv_1": (6, 9), "conv_6": (1, 3)},
    "concatenate": {"clone_requantize_1_2": (1, 6)},
}


@every_row
def test_needed_depths(name: str) -> None:
    """Every stream needs one word but the inputs of joins; those need all that is given: one less is a deadlock."""
    network = running(lower(zoo.row(name)))
    at_once, late = needed_depths(network, 0), needed_depths(network)
    expected = NEEDED.get(name, {})
    assert at_once == {stream: expected.get(stream, (1, 1))[0] for stream in at_once}
    assert late == {stream: expected.get(stream, (1, 1))[1] for stream in late}
    assert simulate(network, at_once).waiting == ()
    for stream, depth in at_once.items():
        if depth > 1:
            assert simulate(network, {**at_once, stream: depth - 1}).waiting


def test_one_word_less_is_a_deadlock_by_any_schedule() -> None:
    network = running(lower(zoo.row("residual")))
    enough = needed_depths(network, 0)
    short = {**enough, "clone_conv_1_2": 12}
    assert simulate(network, short).waiting == (
        "'pad_conv_1' waits for room in 'pad_conv_1' (depth 1)",
        "'conv_1' waits for room in 'conv_1' (depth 1)",
        "'clone_conv_1' waits for room in 'clone_conv_1_2' (depth 12)",
        "'pad_conv_4' waits for a word of 'clone_conv_1_1'",
        "'conv_4' waits for a word of 'pad_conv_4'",
        "'pad_conv_7' waits for a word of 'conv_4'",
        "'conv_7' waits for a word of 'pad_conv_7'",
        "'merge_9' waits for a word of 'conv_7'",
    )
    for seed in range(20):
        assert by_chance(network, enough, {}, random.Random(seed), samples=2)
        assert not by_chance(network, short, {}, random.Random(seed), samples=2)


@every_row
def test_depths_of_the_project_hold_for_every_pipeline(name: str) -> None:
    graph = lower(zoo.row(name))
    network, built = running(graph), {fifo.stream: fifo.depth for fifo in fifos(graph)}
    rng = random.Random(name)
    for _ in range(8):
        late = {each.name: rng.choice([0, 0, 1, 5, PIPELINE_STEPS]) for each in network}
        for depths in (built, needed_depths(network)):
            assert simulate(network, depths, late).waiting == ()


@st.composite
def branched(draw: st.DrawFn) -> IntGraph:
    """Return a graph of convolutions, poolings and joins of equal shapes, over a short sequence."""
    net = Net((draw(st.integers(5, 12)), 1), s(4)).requantize(s(3)).mark("m0")
    marks, shapes = ["m0"], {"m0": net.ops[-1].shape}
    for number in range(1, draw(st.integers(2, 7))):
        start = draw(st.sampled_from(marks))
        net = net.back(start)
        shape = shapes[start]
        kind = draw(st.sampled_from(["conv", "strided", "pool", "reverse", "join", "join"]))
        partners = [mark for mark in marks if shapes[mark] == shape]
        if kind == "conv":
            net = net.conv(np.ones((draw(st.sampled_from([1, 3, 5])), 1, 1)), padding="same").requantize(s(3))
        elif kind == "strided":
            net = net.conv(np.ones((1, 1, 1)), strides=(2,)).requantize(s(3))
        elif kind == "pool":
            net = net.pool((3,), (1,), padding="same")
        elif kind == "reverse":
            net = net.gather(lambda x: x[::-1])
        else:
            net = net.merge("add", draw(st.sampled_from(partners))).requantize(s(3))
        marks.append(f"m{number}")
        net = net.mark(marks[-1])
        shapes[marks[-1]] = net.ops[-1].shape
    graph = net.graph()
    read = {name for op in graph.ops for name in op.inputs}
    return IntGraph(name="branched", ops=graph.ops, outputs=tuple(op.name for op in graph.ops if op.name not in read))


@settings(max_examples=100)
@given(branched(), st.randoms(use_true_random=False))
def test_no_schedule_of_any_graph_gets_stuck(graph: IntGraph, rng: random.Random) -> None:
    network = running(graph)
    needed = needed_depths(network)
    late = {each.name: rng.choice([0, 1, 4, PIPELINE_STEPS]) for each in network}
    assert by_chance(network, needed, late, rng, samples=2)
    assert all(fifo.needed <= fifo.words and fifo.needed <= fifo.depth <= fifo.words for fifo in fifos(graph))
    short = {stream: rng.randint(1, depth) for stream, depth in needed.items()}
    assert by_chance(network, short, late, rng, samples=1) == (simulate(network, short, late).waiting == ())


@pytest.mark.parametrize(
    ("word_bits", "words", "needed", "depth"),
    [
        (8, 1000, 1, 32),  # one LUT a bit holds 32 words
        (64, 1000, 1, 16),  # 1024 bits stay in shift registers
        (600, 1000, 1, 2),
        (8, 20, 1, 20),  # never more than a sample
        (8, 1, 1, 1),
        (8, 1000, 127, 127),
    ],
)
def test_depth_to_build(word_bits: int, words: int, needed: int, depth: int) -> None:
    assert Fifo(stream="x", op="x", word_bits=word_bits, words=words, needed=needed).depth == depth


def test_a_network_is_cut_where_one_stream_goes_through() -> None:
    """Each residual block is simulated by itself, so long networks take no longer than the sum of their blocks."""
    parts = list(fifo_module._parts(running(lower(zoo.row("residual_twice")))))
    assert [[each.name for each in part] for part in parts] == [
        ["clone_port", "pad_conv_1", "conv_1", "merge_3"],
        ["clone_merge_3", "pad_conv_6", "conv_6", "merge_8"],
    ]


# in the project


def with_depth(project: Project, variable: str, depth: int) -> Project:
    path = f"firmware/{project.name}.cpp"
    text, count = re.subn(rf"(variable={variable} depth=)\d+", rf"\g<1>{depth}", project.text(path))
    assert count == 1
    return Project(project.name, {**project.files, path: text.encode()})


@pytest.mark.parametrize("backend", ["Vitis", "Vivado"])
def test_depths_are_written_and_read_back(backend: str) -> None:
    graph = lower(zoo.row("branch_strided"))
    target = Target(io_type="io_stream", backend=backend)
    project = emit(graph, target)
    written = read_depths(project.text(f"firmware/{graph.name}.cpp"))
    assert sorted(written.values()) == sorted(fifo.depth for fifo in fifos(graph))
    assert not list(findings(with_depth(project, "layer3_out", 100), graph, target)), "more does no harm"
    (found,) = findings(with_depth(project, "layer3_out", 8), graph, target)
    assert str(found) == "op 'conv_1': the depth of the FIFO layer3_out is 8, the graph says at least 9"


def side_by_side(project: Project, graph: IntGraph, directory: Path) -> tuple[str, ...]:
    """Return what is wrong with a project whose kernels run in threads, 20 samples without a pause."""
    shutil.rmtree(directory / graph.name, ignore_errors=True)
    write(project, directory / graph.name)
    program = threaded.compile_threads(project, directory / graph.name, graph, directory / "programs")
    return threaded.complaints(program, directory / graph.name, graph, inputs(graph, 20))


THREADED = [("residual", "Vitis"), ("two_inputs", "Vivado"), ("two_outputs", "Vitis")]


@needs_compiler
@pytest.mark.parametrize(("name", "backend"), THREADED)
def test_threads(name: str, backend: str, tmp_path: Path) -> None:
    graph = lower(zoo.row(name))
    assert side_by_side(emit(graph, Target(io_type="io_stream", backend=backend)), graph, tmp_path) == ()


@needs_compiler
def test_a_fifo_too_shallow_is_a_deadlock(tmp_path: Path) -> None:
    graph = lower(zoo.row("residual_twice"))
    (line,) = side_by_side(with_depth(emit(graph, STREAM), "layer6_cpy2", 2), graph, tmp_path)
    assert line.startswith("its streams, run side by side: deadlock: ")
    assert "'clone_merge_3' waits for room in 'layer6_cpy2' (depth 2)" in line
    assert "'merge_8' waits for a word of 'layer7_out'" in line or "'merge_8' waits for a word of 'layer8_out'" in line


@needs_compiler
def test_results_that_differ_and_words_that_are_missing(tmp_path: Path) -> None:
    graph = lower(Net((6, 2), s(4), "few").relu().requantize(u(3, -1)).graph())
    project = emit(graph, STREAM)
    wrong = project.text("firmware/defines.h").replace("AP_RND_CONV", "AP_TRN")
    assert wrong != project.text("firmware/defines.h")
    lines = side_by_side(Project("few", {**project.files, "firmware/defines.h": wrong.encode()}), graph, tmp_path)
    assert [re.sub(r"\d+", "N", line) for line in lines] == ["its streams, run side by side: N of N samples differ"]
    fewer = project.text("firmware/parameters.h").replace("n_elem = 12", "n_elem = 10")
    lines = side_by_side(Project("few", {**project.files, "firmware/parameters.h": fewer.encode()}), graph, tmp_path)
    assert lines == ("its streams, run side by side: the end: waits for a word of 'relu_1'",)


def test_a_top_function_of_another_form() -> None:
    graph = lower(zoo.row("residual"))
    project = emit(graph, STREAM)
    path = f"firmware/{graph.name}.cpp"
    text = project.text(path).replace("; // conv_1", ";")
    with pytest.raises(ValueError, match=r"zoo_residual.cpp: a kernel is not called as it was generated"):
        threaded.program_source(Project(graph.name, {**project.files, path: text.encode()}), graph)


@needs_compiler
def test_a_program_that_does_not_compile(tmp_path: Path) -> None:
    graph = lower(zoo.row("two_outputs"))
    project = emit(graph, STREAM)
    broken = Project(graph.name, {**project.files, "firmware/defines.h": b"nonsense"})
    with pytest.raises(ToolFailedError, match="failed with status 1"):
        side_by_side(broken, graph, tmp_path)
    assert not list((tmp_path / "programs").rglob("threads"))


# in a build


def residual_model(path: Path) -> Path:
    """Save a QKeras model with a branch around a convolution; skip where TensorFlow is not installed."""
    from fixtures_keras import bias, layers, po2, qkeras, quiet_warnings, wired

    def build(x: Any) -> Any:
        x = qkeras.QActivation("quantized_bits(4,0,alpha=1)")(x)
        y = qkeras.QConv1D(2, 7, padding="same", kernel_quantizer=po2(4, 1), bias_quantizer=bias(), name="conv")(x)
        y = qkeras.QActivation("quantized_bits(4,1,alpha=1)")(y)
        return qkeras.QActivation("quantized_relu(4,1)", name="last")(layers.Add(name="add")([y, x]))

    model = wired(build, (20, 2))
    with quiet_warnings():
        model.save(path)
    return path


@needs_compiler
def test_a_build_says_that_its_streams_ran(tmp_path: Path) -> None:
    """Then FIFOs are made shallow by hand: `flow compare` says which one is too shallow, and what waits for it."""
    model = residual_model(tmp_path / "residual.h5")
    built = flow("build", model, "--io-type", "io_stream", "--output", tmp_path, "--adversarial", 16, "--json")
    assert built.code == 0, built.err
    assert built.report()["verdict"]["bit_exact"] is True
    assert [note for note in built.report()["notes"] if "no deadlock, outputs equal" in note]
    (run,) = run_directories(tmp_path)
    (source,) = (run / "project" / "firmware").glob("*.cpp")
    source.write_text(re.sub(r"(variable=\w+ depth=)\d+", r"\g<1>1", source.read_text()))
    compared = flow("compare", run, "--json")
    verdict = compared.report()["verdict"]
    assert (compared.code, verdict["bit_exact"], verdict["mismatches"]) == (1, False, 0)
    changed, shallow, deadlock = verdict["file_differences"]
    assert changed == f"firmware/{source.name}: is not as the build wrote it"
    assert re.search(r"the depth of the FIFO layer\w+ is 1, the graph says at least \d+", shallow)
    assert re.search(r"deadlock: .*'clone_\w+' waits for room in 'layer\w+' \(depth 1\)", deadlock)
    assert "deadlock: " in flow("compare", run).out
