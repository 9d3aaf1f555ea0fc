"""hls4ml's other back ends: golden text, nothing of the machine in it, equal C simulation, and refusals by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zoo
from conftest import Golden, needs_compiler
from nets import Net, inputs, s, u
from test_emit import branches

from flow.backends.base import BACKENDS
from flow.backends.functions import functions
from flow.backends.hls4ml import csim
from flow.backends.hls4ml import emit as emit_module
from flow.backends.hls4ml.dialects import AMD, DIALECTS, not_simulated, spelled
from flow.backends.hls4ml.emit import emit
from flow.backends.hls4ml.readback import findings
from flow.backends.hls4ml.refusals import COPIES_CODES
from flow.errors import EmitError, SpecError, UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import Conv, Dense, Input, IntGraph, Relu
from flow.ir.passes import lower
from flow.pipeline import BuildOptions, build, compare_run
from flow.project import Project
from flow.target import IO_TYPES, STRATEGIES, Target

OTHERS = [name for name, dialect in DIALECTS.items() if dialect is not AMD]
SIMULATED = [name for name in OTHERS if not DIALECTS[name].needs]
TARGETS = [
    Target(backend=backend, io_type=io_type, strategy=strategy)
    for backend, io_type, strategy in product(OTHERS, IO_TYPES, STRATEGIES)
    if strategy in BACKENDS[backend].strategies and io_type in DIALECTS[backend].io_types
]


def graph(name: str = "everything") -> IntGraph:
    return lower(zoo.row(name))


def tiny(*, dense_only: bool) -> IntGraph:
    net = Net((4, 4, 1), u(3), "tiny").conv(zoo.po2(2, 2, 1, 2), [1, 2]).relu().requantize(u(3)).flatten()
    net = Net((6,), u(3), "tiny").dense(zoo.po2(6, 18)).relu().requantize(u(3)) if dense_only else net
    return lower(net.dense(zoo.po2(18, 2), frac=2).requantize(s(5, 1)).graph())


@pytest.mark.parametrize("target", [t for t in TARGETS if t.strategy == BACKENDS[t.backend].strategies[0]], ids=str)
def test_text(target: Target, golden: Golden) -> None:
    project = emit(tiny(dense_only=target.backend == "Libero"), target)
    sources = DIALECTS[target.backend].sources
    paths = [f"{sources}/{name}" for name in ("tiny.cpp", "tiny.h", "defines.h", "parameters.h", "weights/w2.h")]
    paths += ["csim/main.cpp"] if target.backend in SIMULATED else []
    for path in paths:
        golden(f"{target.backend}/{target.io_type}/{path.split('/')[-1]}", project.text(path))


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_one_graph_is_one_text_without_the_machine(target: Target) -> None:
    lowered = graph("dense_twice")
    project = emit(lowered, target)
    assert project.digest() == emit(lowered, target).digest()
    for path, content in project.files.items():
        assert b"po2flow-" not in content and not path.endswith(("hls4ml_config.yml", ".tar.gz")), path
    assert any(target.part.encode() in content for content in project.files.values())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_row_is_emitted_or_refused(target: Target) -> None:
    """Emission reads its own text back, so a row that comes out is the graph."""
    refused = {name for name in zoo.ROWS if _refusal(graph(name), target)}
    for name in zoo.ROWS:
        if name in refused:
            with pytest.raises(UnsupportedError, match=f"^zoo_{name}: "):
                emit(graph(name), target)
        else:
            emit(graph(name), target)


def _refusal(lowered: IntGraph, target: Target) -> bool:
    """Say whether an op casts to one bit, or without our kernels a graph is no chain of what hls4ml computes."""
    dialect = DIALECTS[target.backend]
    if dialect.extended:
        casts = (op for op in lowered.ops if not isinstance(op, COPIES_CODES))
        return any(op.format.width == 1 for op in casts)
    chain = len(lowered.inputs) == len(lowered.outputs) == 1
    return not chain or any(
        (not isinstance(op, Input) and type(op) not in dialect.ops)
        or len(lowered.readers(op.name)) + (op.name in lowered.outputs) != 1
        or op.cast.divisor != 1
        or (isinstance(op, Relu) and op.limit is not None)
        or (isinstance(op, Dense) and len(op.shape) > 1)
        for op in lowered.ops
    )


TOGETHER = [t for t in TARGETS if t.backend in SIMULATED and DIALECTS[t.backend].ports != "pipes"]
"""Those of many projects in one program; `test_oneapi.py` simulates the others."""
ROWS = (
    *("everything", "batchnorm_exact_output", "cast_trn_zero", "conv_same", "dense_on_an_image", "reshape"),
    *("average_rnd_zero", "average_rnd_conv", "relu_limit", "leaky_relu_per_element", "lookup_few_runs"),
    *("lookup_many_wide_runs", "lookup_per_channel_of_a_sum", "lookup_step_at_zero", "softmax_on_rows"),
    *("merge_subtract", "merge_multiply", "merge_maximum", "merge_minimum", "average_of_three", "residual"),
    *("two_inputs", "two_outputs", "three_readers", "pad", "concatenate", "pool_1d", "pool_same_unsigned"),
    *("pool_overlapping", "gather_exact_output", "average_global_cast_behind_reshape"),
)
"""Every kernel, its tables as well as its comparisons, and every way in which ops are connected."""


@needs_compiler
@pytest.mark.parametrize("target", [t for t in TOGETHER if t.strategy == "Resource"], ids=str)
def test_csim_is_the_reference(target: Target, tmp_path: Path) -> None:
    assert different([branches(), *map(graph, ROWS)], target, tmp_path) == []


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("target", TOGETHER, ids=str)
def test_csim_of_every_row_is_the_reference(target: Target, tmp_path: Path) -> None:
    rows = [lowered for lowered in map(graph, zoo.ROWS) if not _refusal(lowered, target)]
    assert different(rows, target, tmp_path) == []


def different(graphs: Sequence[IntGraph], target: Target, directory: Path) -> list[str]:
    """Return the ops whose codes in simulation are not those of the reference."""
    found = []
    simulations = csim.compile_together([emit(each, target) for each in graphs], graphs, directory)
    for lowered, simulate in zip(graphs, simulations, strict=True):
        codes = inputs(lowered, 60)
        result, expected = simulate(codes).codes, reference.run(lowered, codes).codes
        wrong = [op.name for op in lowered.ops if not np.array_equal(result[op.name], expected[op.name])]
        found += [f"{lowered.name}.{name}" for name in wrong]
    return found


@pytest.mark.parametrize(
    ("backend", "fmt", "modes", "text"),
    [
        ("Quartus", s(7, 4), (Rounding.RND_CONV, Overflow.SAT), "ac_fixed<7,3,true,AC_RND_CONV,AC_SAT>"),
        ("oneAPI", u(6, 4), (Rounding.TRN, Overflow.SAT_SYM), "ac_fixed<6,2,false,AC_TRN,AC_SAT_SYM>"),
        ("Catapult", FixedFormat(False, 6, -3), (Rounding.TRN, Overflow.WRAP), "ac_fixed<3,6,false>"),
        ("Catapult", u(1), (Rounding.TRN, Overflow.WRAP), "ac_fixed<2,2,false>"),
        ("Libero", s(5, 1), (Rounding.RND_CONV, Overflow.SAT), "hls::ap_fixpt<5,4,hls::AP_RND_CONV,hls::AP_SAT>"),
        ("Libero", u(1), (Rounding.TRN, Overflow.WRAP), "hls::ap_ufixpt<1,1>"),
    ],
)
def test_types_as_the_back_end_writes_them(
    backend: str, fmt: FixedFormat, modes: tuple[Rounding, Overflow], text: str
) -> None:
    assert spelled(backend, Cast(fmt, *modes)) == text


@pytest.mark.parametrize(
    ("row", "target", "message"),
    [
        (
            "conv_valid",
            Target(backend="Libero"),
            "'conv_1': hls4ml's Libero back end does not compute 'conv' exact",
        ),
        ("dense_one_bit_input", Target(backend="Quartus"), "'dense_1': hls4ml writes its one-bit output as two bits"),
        (
            "dense_twice",
            Target(backend="Libero", io_type="io_stream"),
            "cannot write io_stream projects for Libero; use",
        ),
        ("dense_unsigned_input", Target(backend="oneAPI", reuse_factor=3), r"op 'dense_1' \(5 x 4\) cannot have reuse"),
    ],
)
def test_what_a_back_end_cannot_do_is_refused(row: str, target: Target, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        emit(graph(row), target)


def test_padded_weights_are_refused() -> None:
    large = lower(Net((48,), u(3), "large").dense(zoo.po2(48, 48)).requantize(s(5, 1)).graph())
    emit(large, Target(backend="Quartus", reuse_factor=2))
    with pytest.raises(UnsupportedError, match="op 'dense_1': with more than 2048 products its reuse factor must be a"):
        emit(large, Target(backend="Quartus", reuse_factor=3))


def test_targets() -> None:
    assert ("Vitis", "Vivado", *OTHERS, "rtl") == (*DIALECTS, "rtl") == tuple(BACKENDS)
    parts = {"Quartus": "Arria10", "Catapult": "xcku115-flvb2104-2-i", "oneAPI": "Agilex7", "Libero": "MPF300"}
    for backend in BACKENDS:
        target = Target(backend=backend)
        assert (
            target.part == parts.get(backend, "xcvu13p-flga2577-2-e") and Target.from_json(target.to_json()) == target
        )
    with pytest.raises(SpecError, match="back end Quartus has no strategy 'Latency'; use Resource"):
        Target(backend="Quartus", strategy="Latency")
    with pytest.raises(SpecError, match="part 'a;rm-rfb' is no part number"):
        Target(backend="Libero", part="a; rm -rf b")


def test_libero_copies_all_outputs() -> None:
    """hls4ml copies as many as there are inputs, here 4 of 4; `dense_unsigned_input` has 5 and 4."""
    for name in ("dense_unsigned_input", "dense_exact_output"):
        lowered = graph(name)
        text = emit(lowered, Target(backend="Libero")).text(f"firmware/{lowered.name}.cpp")
        copied = re.findall(r"i < (\d+); i\+\+\) \{\n +layer\w+_struct.data\[i\] = ", text)
        assert copied == [str(lowered.output.shape[0])]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_changed_project_is_found_out(target: Target) -> None:
    lowered, sources = graph("dense_unsigned_input"), DIALECTS[target.backend].sources
    project = emit(lowered, target)
    for path, old, new in (
        (f"{sources}/defines.h", b"RND_CONV", b"RND"),
        (f"{sources}/{lowered.name}.cpp", b"dense_", b"dense2_"),
        (f"{sources}/weights/w2.h", b"8", b"16"),
        (f"{sources}/weights/b2.h", b"9", b"7"),
    ):
        changed = {**project.files, path: project.files[path].replace(old, new)}
        if changed[path] != project.files[path]:
            assert list(findings(Project(project.name, changed), lowered, target)), path
    assert list(findings(project, lowered, target)) == []


def test_a_project_that_is_not_its_graph_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    own = emit_module._mended
    monkeypatch.setattr(emit_module, "_mended", lambda text, *rest: own(text, *rest).replace("w2, b2", "w2, w2"))
    with pytest.raises(EmitError, match="the generated project is not the graph: op 'dense_1'"):
        emit(graph("dense_unsigned_input"), Target(backend="Catapult"))


def test_a_warning_of_hls4ml_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer(emit_module.QuartusWriter):
        def write_hls(self, model):
            print("WARNING: changed something")
            super().write_hls(model)

    monkeypatch.setitem(emit_module.WRITERS, "Quartus", Writer)
    with pytest.raises(EmitError, match="hls4ml changed something on its own: WARNING: changed something"):
        emit(graph("dense_unsigned_input"), Target(backend="Quartus"))


def test_without_our_kernels_only_chains_are_taken() -> None:
    lowered = graph("dense_twice")
    last = replace(lowered.output, inputs=(lowered.ops[1].name,))
    second = replace(lowered.output, name="second", inputs=(lowered.ops[1].name,))
    with pytest.raises(UnsupportedError, match="not exactly one reader of its output, which is not supported for L"):
        emit(IntGraph(name=lowered.name, ops=(*lowered.ops[:2], second, last)), Target(backend="Libero"))
    for name in ("merge_add", "two_outputs"):
        with pytest.raises(UnsupportedError, match="several inputs or outputs are not supported for Libero"):
            emit(graph(name), Target(backend="Libero"))


@pytest.mark.parametrize("backend", [name for name in OTHERS if name not in SIMULATED])
def test_a_build_without_simulation_says_so(backend: str, tmp_path: Path) -> None:
    options = BuildOptions(samples=20, adversarial=16, output=tmp_path)
    report = build("digits_mlp", Target(backend=backend), options)
    verdict = report.document["verdict"]
    assert report.bit_exact is None and report.exit_code == 0
    assert verdict["not_simulated"] == not_simulated(Target(backend=backend)) != ""
    assert "reference" in verdict["compared"] and "csim" not in verdict["compared"] and verdict["mismatches"] == 0
    assert f"not simulated: {verdict['not_simulated']}" in report.document["notes"]
    assert report.document["resources"] == [] and "no estimate of resources" in " ".join(report.document["notes"])
    again = compare_run(Path(report.document["run_dir"]))
    assert again.bit_exact is None and again.document["verdict"]["not_simulated"] == verdict["not_simulated"]
    weights = next(Path(report.document["run_dir"]).rglob("w2.h"))
    weights.write_text(re.sub(", 0", ", 1", weights.read_text(), count=1))
    assert compare_run(Path(report.document["run_dir"])).exit_code == 1


@needs_compiler
@pytest.mark.parametrize("backend", SIMULATED)
def test_a_build_with_simulation_is_bit_exact(backend: str, tmp_path: Path) -> None:
    options = BuildOptions(samples=20, adversarial=16, output=tmp_path)
    report = build("digits_mlp", Target(backend=backend), options)
    assert report.bit_exact is True and report.document["verdict"]["not_simulated"] is None
    assert "csim" in report.document["verdict"]["compared"]


@pytest.mark.parametrize("backend", OTHERS)
def test_synthesis_names_the_vendors_command(backend: str) -> None:
    own = re.escape(DIALECTS[backend].synthesis)
    with pytest.raises(UnsupportedError, match=f"synthesis for {backend} is not run from here; .*{own}"):
        functions(Target(backend=backend)).tools["csynth"].check(Target(backend=backend))


def test_pointwise_convolutions_keep_their_name_in_intels_streams() -> None:
    lowered = graph("conv_pointwise")
    assert isinstance(lowered.ops[1], Conv)
    for io_type, function in (("io_parallel", "nnet::pointwise_conv_2d_cl<"), ("io_stream", "nnet::conv_2d_cl<")):
        text = emit(lowered, Target(backend="Quartus", io_type=io_type)).text(f"firmware/{lowered.name}.cpp")
        assert function in text
