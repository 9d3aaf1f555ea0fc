"""Emitted projects: golden text, one call an op, reproducible, and refusals instead of silent changes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import zoo
from conftest import Golden
from nets import Net, first, inputs, s, u

from flow.backends.functions import settled
from flow.backends.hls4ml import emit as emit_module
from flow.backends.hls4ml import wiring
from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.emit import emit
from flow.backends.hls4ml.kernels import KERNELS
from flow.backends.hls4ml.layers import LAYERS, precision
from flow.backends.hls4ml.project_text import carries
from flow.backends.hls4ml.readback import findings
from flow.cost.streams import Kind
from flow.errors import EmitError, UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, to_values
from flow.ir.graph import OPS, Conv, Input, IntGraph, MatMul, from_json, to_json
from flow.ir.names import CPP, KEYWORDS, VHDL, identifier
from flow.ir.passes import lower
from flow.project import Project
from flow.target import IO_TYPES, STRATEGIES, Target


def graph(name: str = "everything") -> IntGraph:
    return lower(zoo.row(name))


TARGETS = [Target(backend=b, io_type=i, strategy=s) for b, i, s in product(("Vitis", "Vivado"), IO_TYPES, STRATEGIES)]


@pytest.mark.parametrize(("io_type", "strategy"), [("io_parallel", "Latency"), ("io_stream", "Resource")])
def test_text(io_type: str, strategy: str, golden: Golden) -> None:
    small = lower(
        Net((4, 4, 1), u(3), "tiny")
        .conv(zoo.po2(2, 2, 1, 2), [1, 2])
        .relu()
        .requantize(u(3))
        .flatten()
        .dense(zoo.po2(18, 2), frac=2)
        .requantize(s(5, 1))
        .graph()
    )
    project = emit(small, Target(io_type=io_type, strategy=strategy))
    for path in ("firmware/tiny.cpp", "firmware/defines.h", "firmware/parameters.h", "csim/main.cpp"):
        golden(f"{io_type}/{path.split('/')[-1]}", project.text(path))
    golden(f"{io_type}/w2.txt", project.text("firmware/weights/w2.txt"))


def branches() -> IntGraph:
    """Return a graph of two ports and three outputs through most kernels; its input is read twice and is an output."""
    net = Net((4, 4, 2), s(4, 1), "branches").port("other", (2, 2, 2), u(3)).mark("x")
    net.average((3, 3), s(5, 2), strides=(2, 2), padding="same").merge("subtract", "other").leaky([1], frac=3).mark("a")
    net.back("x").pool((2, 2)).gather(lambda a, b: np.concatenate([a, b[::-1]], axis=-1), "a").requantize(u(4)).mark(
        "b"
    )
    net.lookup([0, 3, 9], [2, 0, 3], u(2)).reshape(2, 8).softmax(u(4, 4), bits=4).leave("x", "b", "b")
    return lower(net.graph())


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_text_of_kernels(io_type: str, golden: Golden) -> None:
    project = emit(branches(), Target(io_type=io_type))
    for path in ("firmware/branches.cpp", "firmware/parameters.h", "csim/main.cpp"):
        golden(f"{io_type}/branches_{path.split('/')[-1]}", project.text(path))


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_one_call_an_op(target: Target) -> None:
    lowered = graph()
    text = emit(lowered, target).text(f"firmware/{lowered.name}.cpp")
    calls = re.findall(r"nnet::(\w+)<.*?// (\w+)\n", re.sub(r"#ifndef __SYN.*?#endif", "", text, flags=re.DOTALL))
    computing = [(function, op) for function, op in calls if not carries(function)]
    assert [op for _, op in computing] == [op.name for op in lowered.ops[1:] if op.kind != "reshape"]
    assert {function for function, _ in computing} == {"conv_2d_cl", "pooling2d_cl", "dense"}


def test_digest_is_reproducible_and_tells_targets_apart() -> None:
    digests = [emit(graph(), target).digest() for target in TARGETS]
    assert len(set(digests)) == len(TARGETS)
    assert digests == [emit(from_json(json.loads(json.dumps(to_json(graph())))), target).digest() for target in TARGETS]
    other = emit(graph(), Target(clock_period_ns=4.0, part="xc7z020clg400-1"))
    assert other.digest() != digests[0] and "xc7z020clg400-1" in "".join(
        text.decode() for path, text in other.files.items() if path.endswith(".tcl")
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sparsity_is_the_share_of_zeros_in_the_weight_files(strategy: str) -> None:
    for name in ("everything", "dense_dead_channels", "dense_not_po2", "dense_all_zero", "conv_same"):
        lowered = graph(name)
        project = emit(lowered, Target(strategy=strategy))
        text = project.text(f"firmware/{lowered.name}.cpp")
        for op in lowered.ops:
            if isinstance(op, MatMul):
                variable = re.search(rf"(w\d+), b\d+\); // {op.name}\n", text).group(1)  # type: ignore[union-attr]
                values = np.array(project.text(f"firmware/weights/{variable}.txt").split(","), np.float64)
                assert values.size == op.weight.codes.size
                assert np.count_nonzero(values == 0) == np.count_nonzero(op.weight.codes == 0), op.name


def test_a_stored_zero_is_zero_and_no_stored_weight_else() -> None:
    """Stored code 0 means weight 0; every other weight has its non-zero flag set, so its code is not 0."""
    lowered = graph("dense_unsigned_input")
    project = emit(lowered, Target(strategy="Resource"))
    stored = [int(text) for text in project.text("firmware/weights/w2.txt").split(",")]
    weight = first(lowered).weight.codes.T.reshape(-1)  # type: ignore[attr-defined]
    assert [code == 0 for code in stored] == [code == 0 for code in weight]


def test_the_test_bench_holds_what_the_reference_says() -> None:
    lowered = graph()
    project = emit(lowered, Target())
    x = np.array([line.split() for line in project.text("tb_data/tb_input_features.dat").splitlines()], np.float64)
    y = np.array([line.split() for line in project.text("tb_data/tb_output_predictions.dat").splitlines()], np.float64)
    codes = (x / lowered.inputs[0].format.step).astype(np.int64).reshape(-1, *lowered.port_shape)
    assert np.array_equal(to_values(reference.run_output(lowered, codes), lowered.output.format), y) and len(y) == 7


def test_illegal_reuse_factors_are_refused_and_the_legal_ones_work() -> None:
    lowered = lower(Net((6,), u(4)).dense(zoo.po2(6, 4)).relu().requantize(u(4)).graph())
    message = (
        r"net: op 'dense_1' \(6 x 4\) cannot have reuse_factor 5 .* --reuse-factor dense_1=N, with N one of ([\d, ]+)$"
    )
    with pytest.raises(UnsupportedError, match=message) as caught:
        emit(lowered, Target(strategy="Resource", reuse_factor=5))
    legal = [int(text) for text in re.search(message, str(caught.value)).group(1).split(",")]  # type: ignore[union-attr]
    for factor in range(1, 25):
        target = Target(strategy="Resource", reuse_factor=factor)
        if factor in legal:
            parameters = emit(lowered, target).text("firmware/parameters.h")
            assert f"reuse_factor = {factor};" in parameters, "hls4ml chose another"
        else:
            with pytest.raises(UnsupportedError, match="cannot have reuse_factor"):
                emit(lowered, target)
    assert legal == sorted(legal) and 1 in legal and 24 in legal


def test_the_nearest_legal_reuse_factor_of_each_op() -> None:
    lowered = lower(Net((6,), u(4)).dense(zoo.po2(6, 4)).relu().requantize(u(4)).dense(zoo.po2(4, 3)).graph())
    asked = Target(strategy="Resource", reuse_factor=5, reuse_factors=(("dense_4", 9),), reuse_nearest=True)
    target = settled(asked, lowered)
    assert target.reuse_factors == (("dense_4", 9), ("dense_1", 6))
    assert not target.reuse_nearest and "reuse_factor = 6;" in emit(lowered, target).text("firmware/parameters.h")
    assert settled(replace(asked, strategy="Latency"), lowered).reuse_factors == (("dense_4", 9),)


def test_a_reuse_factor_counts_the_products_of_all_groups() -> None:
    """Groups are emitted as one convolution with zeros, so its factors divide the products of all channels."""
    lowered = lower(Net((5, 4), u(4)).conv(zoo.ints(2, 2, 6), groups=2).requantize(s(6)).graph())
    for factor, legal in ((8, True), (7, False)):
        target = Target(strategy="Resource", reuse_factor=factor)
        if legal:
            assert f"reuse_factor = {factor};" in emit(lowered, target).text("firmware/parameters.h")
        else:
            with pytest.raises(UnsupportedError, match=r"op 'conv_1' \(8 x 6\) cannot have reuse_factor 7"):
                emit(lowered, target)


def test_forms_that_this_back_end_lacks_are_refused() -> None:
    cube = Net((2, 2, 2, 1), u(3)).conv(zoo.ints(1, 1, 1, 1, 2)).graph()
    axes = Net((2, 2, 2, 3), u(3)).dense(zoo.ints(3, 2)).graph()
    one_bit = Net((2,), s(3)).dense(zoo.ints(2, 2)).requantize(s(1), overflow=Overflow.SAT_SYM).graph()
    for bad, message in (
        (cube, r"net: op 'conv_1' is a convolution over 3 axes; .*: use Conv1D or Conv2D"),
        (axes, r"net: op 'dense_1' is a dense layer over 4 axes; .*: reshape its input"),
        (one_bit, r"net: op 'dense_1' saturates symmetrically to one signed bit, .*: use another format"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            emit(lower(bad), Target())


def test_a_stream_that_nothing_reads_is_refused() -> None:
    unread = lower(Net((2,), s(3)).port("spare", (3,), u(2)).relu().graph())
    with pytest.raises(UnsupportedError, match=r"net: op 'spare' is read by nothing; .*, or use io_parallel"):
        emit(unread, Target(io_type="io_stream"))
    emit(unread, Target())


def test_outputs_that_csim_cannot_carry_are_refused() -> None:
    wide = lower(Net((3,), s(16)).dense(zoo.ints(3, 2, largest=1 << 40)).graph())
    with pytest.raises(UnsupportedError, match=r"op 'dense_1' has outputs of 5\d bits; C simulation carries 53"):
        emit(wide, Target())


def test_a_project_that_is_not_its_graph_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    own = emit_module._generated

    def tampered(graph, target):
        project, kinds = own(graph, target)
        defines = project.files["firmware/defines.h"].replace(b"AP_RND_CONV", b"AP_RND")
        return Project(project.name, {**project.files, "firmware/defines.h": defines}), kinds

    monkeypatch.setattr(emit_module, "_generated", tampered)
    with pytest.raises(
        EmitError, match=r"the generated project is not the graph: op 'dense_1': the output type is .*AP_RND,"
    ):
        emit(graph("dense_unsigned_input"), Target())


def test_a_warning_of_hls4ml_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer(emit_module.VitisWriter):
        def write_hls(self, model):
            print("WARNING: changed something")
            super().write_hls(model)

    monkeypatch.setitem(emit_module.WRITERS, "Vitis", Writer)
    with pytest.raises(EmitError, match="hls4ml changed something on its own: WARNING: changed something"):
        emit(graph("dense_unsigned_input"), Target())


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (FixedFormat(False, 2, 4), "ufixed<6,2,RND_CONV,SAT,0>"),
        (FixedFormat(True, 2, 4), "fixed<7,3,RND_CONV,SAT,0>"),
        (FixedFormat(True, -2, 6), "fixed<5,-1,RND_CONV,SAT,0>"),
        (FixedFormat(False, 6, -3), "ufixed<3,6,RND_CONV,SAT,0>"),
    ],
)
def test_precision_in_hls4ml_words(fmt: FixedFormat, text: str) -> None:
    assert precision(Cast(fmt, Rounding.RND_CONV, Overflow.SAT), "Vitis") == text


def test_hostile_layer_names_reach_the_project_as_identifiers() -> None:
    hostile = ["int", "w2", "layer2_out", "result_t", 'x; system("true")']
    net = Net((3,), u(4), identifier("main", ())).dense(zoo.po2(3, 3)).relu().requantize(u(3)).dense(zoo.po2(3, 3))
    lowered = lower(net.relu().requantize(u(3)).dense(zoo.po2(3, 2)).graph())
    taken: list[str] = []
    names = {}
    for op, name in zip(lowered.ops, hostile, strict=False):
        names[op.name] = identifier(name, taken)
        taken.append(names[op.name])
    ops = tuple(replace(op, name=names[op.name], inputs=tuple(names[i] for i in op.inputs)) for op in lowered.ops)
    renamed = IntGraph(name=lowered.name, ops=ops)
    for target in TARGETS:
        assert not list(findings(emit(renamed, target), renamed, target))
    assert np.array_equal(
        reference.run_output(renamed, inputs(renamed, 9)), reference.run_output(lowered, inputs(lowered, 9))
    )


def test_back_ends_have_every_op_and_a_writer_each() -> None:
    """hls4ml computes an op or, where it is extended, a kernel does; every kind of kernel of a stream is a layer."""
    assert set(DIALECTS) == set(emit_module.WRITERS) and set(wiring.STREAMED) == set(Kind)
    for dialect in DIALECTS.values():
        assert set(dialect.ops) <= set(LAYERS)
        assert not dialect.extended or {Input, *dialect.ops, *KERNELS} == set(OPS)


def test_convolutions_of_one_pixel_are_pointwise_calls() -> None:
    lowered = graph("conv_pointwise")
    assert isinstance(first(lowered), Conv)
    assert "nnet::pointwise_conv_2d_cl<" in emit(lowered, Target()).text(f"firmware/{lowered.name}.cpp")


def words(text: str) -> set[str]:
    """Return the names of C++ text: not its comments, its directives, or members of the vendor's types."""
    text = re.sub(r"//.*|^ *#(?!pragma).*|^ *#pragma HLS \w+( variable=)?", "", text, flags=re.M)
    return set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text))


@pytest.mark.parametrize("path", sorted({path for dialect in DIALECTS.values() for _, path in dialect.headers}))
def test_our_names_are_no_keywords(path: str) -> None:
    """Vendors' tools make names of Verilog and VHDL of the arguments, variables and tables of C++."""
    text = emit_module.header(path, DIALECTS["Vitis"])
    assert not {word for word in words(text) if word.lower() in KEYWORDS - CPP}


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_names_of_configurations_and_ports_are_no_keywords(io_type: str) -> None:
    project = emit(branches(), Target(io_type=io_type))
    configured = re.findall(r"^struct config\d+ \{.*?^\};", project.text("firmware/parameters.h"), re.M | re.S)
    assert len(configured) >= 7 and not words("".join(configured)) & (KEYWORDS - CPP)
    header = project.text("firmware/branches.h")
    assert "port_in" in header and not words(header) & (KEYWORDS - CPP)


@pytest.mark.parametrize("backend", DIALECTS)
def test_an_input_called_like_a_keyword_of_vhdl_is_a_port_of_another_name(backend: str) -> None:
    net = Net((3,), s(4), "process")
    assert net.here in VHDL
    project = emit(lower(net.dense(zoo.po2(3, 2)).requantize(s(4)).graph()), Target(backend=backend))
    sources = DIALECTS[backend].sources
    assert re.search(r"\bport_in(_fifo)?\b|\bPortInPipe\b", project.text(f"{sources}/process.h"))
    assert not re.search(r"\bport\b(?!=)", project.text(f"{sources}/process.cpp"))
