"""Proofs of the Verilog: the definition is the reference, what is right is proved, what is wrong is refuted by name."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo
from conftest import REPOSITORY
from nets import Net, s, u

from flow.backends.rtl.proof import engines
from flow.backends.rtl.proof.circuit import KINDS, REGISTER, Circuit, read_circuit, read_instances
from flow.backends.rtl.proof.definition import outputs, positions
from flow.backends.rtl.proof.prove import LIBRARIES, Proof, Refuted, prove, prove_op, read_verilog
from flow.backends.rtl.proof.samples import RUN, evaluate, simulate
from flow.backends.rtl.proof.terms import TERMS, bitwuzla_version
from flow.backends.rtl.proof.wiring import check_top
from flow.backends.rtl.verilog.emit import emit
from flow.errors import EmitError, ToolFailedError, ToolMissingError
from flow.ir import reference
from flow.ir.fixed import Overflow, Rounding
from flow.ir.graph import Input, IntGraph, Scan
from flow.ir.passes import lower
from flow.pipeline import BuildOptions, load_graph
from flow.project import write
from flow.target import IO_TYPES, Target

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("alkaid", "bitwuzla", "pyosys")),
    reason="alkaid, bitwuzla or pyosys is not installed",
)
HARD = ("softmax",)
"""Rows whose division bitwuzla does not decide in a second."""


def emitted(graph: IntGraph, io_type: str = "io_parallel") -> dict[str, str]:
    """Return file name -> Verilog."""
    files = emit(graph, Target(backend="rtl", io_type=io_type)).files
    return {Path(path).name: text.decode() for path, text in files.items() if path.startswith("rtl/")}


def circuits(files: Mapping[str, str], directory: Path) -> dict[str, Any]:
    """Return what Yosys read of Verilog files, without the library."""
    paths = []
    for name, text in files.items():
        if name not in LIBRARIES:
            paths.append(directory / name)
            paths[-1].write_text(text)
    return read_verilog(paths)


def shown(graph: IntGraph, files: Mapping[str, str], directory: Path, io_type: str, limit_s: float = 20) -> Any:
    """Return op name -> what is shown of it, the wires of the top module included, all in this process."""
    modules = circuits(files, directory)
    stream = io_type == "io_stream"
    wires = check_top(graph, read_instances(graph.name, modules[graph.name]), stream)
    known = {name: read_circuit(name, each) for name, each in modules.items() if name != graph.name}
    return {
        op.name: {"scope": "refuted", "reason": wires[op.name][0]}
        if wires[op.name][0]
        else prove_op(graph, op, known, stream, limit_s)
        for op in graph.ops
        if not isinstance(op, Input)
    }


@pytest.mark.parametrize("table", [RUN, TERMS], ids=["run", "terms"])
def test_every_kind_of_operation_has_a_row(table: Mapping[str, Any]) -> None:
    assert set(table) == {REGISTER, *KINDS}


@pytest.mark.parametrize("row", zoo.ROWS)
def test_definition_is_the_reference(row: str) -> None:
    graph = lower(zoo.row(row))
    low, high = graph.port_limits()
    codes = np.random.default_rng(1).integers(low, high, (40, *graph.port_shape), endpoint=True)
    codes[:2] = low, high
    expected = reference.run(graph, codes).codes
    for op in graph.ops:
        if isinstance(op, Input):
            continue
        sources, where = graph.sources(op), positions(op, graph.sources(op))
        read = [expected[x.name].reshape(len(codes), -1).astype(np.int64) for x in sources]
        flat = np.concatenate([*read, np.full((len(codes), 1), where.fill)], axis=1)
        for position, key in enumerate(where.keys):
            for place, output in zip(range(where.channels), outputs(op, sources, key), strict=True):
                found = evaluate(op, output, flat[:, where.index[position]])
                column = expected[op.name].reshape(len(codes), -1)[:, position * where.channels + place]
                np.testing.assert_array_equal(np.broadcast_to(found, len(codes)), column)


@pytest.mark.parametrize("io_type", IO_TYPES)
@pytest.mark.parametrize("row", zoo.ROWS)
def test_every_row_is_proved(row: str, io_type: str, tmp_path: Path) -> None:
    graph = lower(zoo.row(row))
    for name, each in shown(graph, emitted(graph, io_type), tmp_path, io_type, 1 if row in HARD else 20).items():
        kind = graph[name].kind
        if row in HARD and kind == "softmax":
            assert (each["scope"], each["overflow"]) == ("tested", "not shown")
        else:
            few = kind == "lookup" and graph.sources(graph[name])[0].format.width <= engines.EXHAUSTIVE_BITS
            assert each["scope"] == ("exhaustive" if few or kind in ("softmax", "truth_table") else "proved"), each
            assert each["overflow"] in ("none, by intervals", "none, by equality")
        if kind in ("dense", "conv") and each["overflow"] != "none, by intervals":
            assert graph[name].cast.rounding in (Rounding.TRN_ZERO, Rounding.RND_ZERO, Rounding.RND_INF)


def test_a_wrong_entry_of_a_truth_table_is_refuted_with_what_reads_it(tmp_path: Path) -> None:
    graph = lower(zoo.row("truth_table"))
    files = emitted(graph)
    (name,) = (name for name, text in files.items() if " ? ~n" in text)
    wrong = files | {name: files[name].replace(" ? ~n", " ? n", 1)}
    proof = shown(graph, wrong, tmp_path, "io_parallel")[graph.ops[1].name]
    assert proof["scope"] == "refuted" and proof["difference"]["found"] != proof["difference"]["expected"]


# ---------------------------------------------------------------------- sabotage

SMALL = {
    "dense": lambda: (
        Net((3,), s(4, 1))
        .dense([[3, -5, 1], [0, 7, -2], [2, 1, 4]], [3, -9, 1], frac=2)
        .requantize(u(4, 1), Rounding.RND_CONV, Overflow.SAT)
    ),
    "dense_zero": lambda: (
        Net((3,), u(4))
        .dense([[3, -5], [6, 7], [-2, 1]], [3, -9], frac=2)
        .requantize(s(5), Rounding.TRN_ZERO, Overflow.SAT_ZERO)
    ),
    "lookup": lambda: Net((2,), s(5)).lookup([-16, -9, -2, 0, 1, 7, 12], [-3, 3, -1, 0, 1, 2, 3], s(3)),
    "lookup_per_channel": lambda: Net((2,), s(5)).lookup(
        [[-16, -9, -2, 7], [-16, 3, 3, 3]], [[0, 1, 2, 3], [2, 1, 1, 1]], u(2)
    ),
    "leaky": lambda: Net((2,), s(6)).leaky([3, 1], frac=3).requantize(s(5, 1), Rounding.RND, Overflow.SAT_SYM),
    "merge": lambda: Net((2,), s(4)).port("b", (2,), u(3, 1)).merge("subtract", "b").relu().requantize(u(3)),
    "maxpool": lambda: Net((3, 1), s(4)).pool((3,)),
    "average": lambda: Net((3, 1), s(4)).average((3,), s(4, 1), rounding=Rounding.RND_INF),
}
"""Graphs of one op and at most 15 input bits: whether a change of its Verilog changes it can be counted out."""


def mutants(text: str) -> Iterator[str]:
    """Yield a module with one thing changed: a constant, an operator, a wire, a shift, a slice, a register, a sign."""
    for match in re.finditer(r"(\d+)'d(\d+)", text):
        width, value = int(match[1]), int(match[2])
        for bit in {0, width - 1}:
            yield f"{text[: match.start()]}{width}'d{value ^ (1 << bit)}{text[match.end() :]}"
    for found, instead in ((" + ", " - "), (" - ", " + "), (" < ", " > "), (" > ", " < "), (" & ", " | ")):
        for match in re.finditer(re.escape(found), text):
            yield text[: match.start()] + instead + text[match.end() :]
    for match in re.finditer(r", (\d+)'d0}", text):
        yield f"{text[: match.start()]}, {int(match[1]) + 1}'d0}}{text[match.end() :]}"
    for match in re.finditer(r"(n\w+)\[(\d+)(?::(\d+))?\]", text):
        bits = [int(bit) for bit in match.groups()[1:] if bit]
        if min(bits) > 0:
            yield f"{text[: match.start()]}{match[1]}[{':'.join(str(bit - 1) for bit in bits)}]{text[match.end() :]}"
    for match in re.finditer(r"\$signed\(", text):
        yield text[: match.start()] + "(" + text[match.end() :]
    for match in re.finditer(r"x\[(\d+) \+: (\d+)\]", text):
        other = 0 if int(match[1]) else int(match[2])
        yield f"{text[: match.start()]}x[{other} +: {match[2]}]{text[match.end() :]}"
    for match in re.finditer(r" signed (?=\[\d+:0\] n)", text):
        yield text[: match.start()] + " " + text[match.end() :]
    for match in re.finditer(r"\b(n\d+)_1\b(?! <=)(?!;)", text):
        yield text[: match.start()] + match[1] + text[match.end() :]


def all_inputs(graph: IntGraph) -> np.ndarray:
    """Return every sample of a small graph."""
    low, high = (limit.reshape(-1) for limit in graph.port_limits())
    axes = [np.arange(least, most + 1) for least, most in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, *graph.port_shape)


def computed(circuit: Circuit, graph: IntGraph, codes: np.ndarray) -> np.ndarray:
    """Return the output codes of the circuit of the one op of a graph: int64 (samples, outputs)."""
    flat = codes.reshape(len(codes), -1)
    widths = [x.format.width for x in graph.inputs for _ in range(math.prod(x.shape))]
    bits = np.concatenate([(flat[:, [i]] >> np.arange(width)) & 1 for i, width in enumerate(widths)], axis=1)
    packed = [np.packbits(column.astype(bool), bitorder="little").tobytes() for column in bits.T]
    given = {net: int.from_bytes(data, "little") for net, data in zip(circuit.ports["x"], packed, strict=True)}
    values = simulate(circuit, given, len(codes))
    size, fmt = -(-len(codes) // 8), graph.output.format
    columns = [np.frombuffer(values[net].to_bytes(size, "little"), np.uint8) for net in circuit.ports["y"]]
    out = np.stack([np.unpackbits(each, count=len(codes), bitorder="little") for each in columns], axis=1)
    unsigned = out.reshape(len(codes), -1, fmt.width).astype(np.int64) @ (1 << np.arange(fmt.width))
    return np.where(unsigned > fmt.max_code, unsigned - (1 << fmt.width), unsigned)


@pytest.mark.parametrize("name", SMALL)
def test_exactly_the_mutants_that_change_a_code_are_refuted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "sampled", lambda claim: None)  # by proof alone
    graph = lower(SMALL[name]().graph())
    (op,) = (op for op in graph.ops if not isinstance(op, Input))
    module = f"{graph.name}_{op.name}"
    text, codes = emitted(graph)[f"{module}.v"], all_inputs(graph)
    expected = reference.run(graph, codes).codes[op.name].reshape(len(codes), -1)
    counts = dict.fromkeys(("equal", "refuted", "registers", "unread"), 0)
    for mutant in [text, *mutants(text)]:
        try:
            circuit = read_circuit(module, circuits({f"{module}.v": mutant}, tmp_path)[module])
            found = prove_op(graph, op, {module: circuit}, False, 20)
        except ToolFailedError:
            counts["unread"] += 1
            continue
        if "register" in found.get("reason", ""):
            counts["registers"] += 1
        elif np.array_equal(computed(circuit, graph, codes), expected):
            counts["equal"] += 1
            assert found["scope"] in ("proved", "exhaustive"), (found, mutant)
        else:
            counts["refuted"] += 1
            assert found["scope"] == "refuted", mutant
            example = found["difference"]
            sample = np.array(example["inputs"]).reshape(1, *graph.port_shape)
            assert computed(circuit, graph, sample)[0, example["output"]] == example["found"]
            right = reference.run(graph, sample).codes[op.name].reshape(-1)
            assert right[example["output"]] == example["expected"] != example["found"]
    assert counts["refuted"] >= 8 and counts["unread"] <= counts["refuted"] // 10, counts


def changed(files: Mapping[str, str], name: str, old: str, new: str) -> dict[str, str]:
    """Return files with one text replaced once in one of them."""
    assert old in files[name], files[name]
    return {**files, name: files[name].replace(old, new, 1)}


def refuted(row: str, io_type: str, file: str, old: str, new: str, directory: Path) -> dict[str, str]:
    """Return op -> reason of what is refuted after a change of one file of a row's project."""
    graph = lower(zoo.row(row))
    files = changed(emitted(graph, io_type), f"{graph.name}{file}.v", old, new)
    found = shown(graph, files, directory, io_type)
    return {name: each["reason"] for name, each in found.items() if each["scope"] == "refuted"}


@pytest.mark.parametrize(
    ("row", "io_type", "file", "old", "new", "op", "reason"),
    [
        ("conv_same", "io_parallel", "_conv_1", "x[52 +: 4]", "x[56 +: 4]", "conv_1", "the input of .* at position 0"),
        ("conv_same", "io_parallel", "_conv_1", "4'd0", "4'd1", "conv_1", "the input of .* at position 0"),
        ("conv_same", "io_parallel", "_conv_1", ".ce(ce)", ".ce(1'b1)", "conv_1", "ce of .* at position 0"),
        ("conv_same", "io_parallel", "", ".x(port_data)", ".x(~port_data)", "conv_1", "input 0 is not .* 'port'"),
        ("conv_same", "io_stream", "_conv_1", ".TOP(1)", ".TOP(0)", "conv_1", "the line buffer's TOP is 0, not 1"),
        ("conv_same", "io_stream", "_conv_1", ".FILL({2{4'd0}})", ".FILL(8'd1)", "conv_1", "line buffer's FILL is 1"),
        ("conv_same", "io_stream", "_conv_1", ".x(window)", ".x({window[70:0], window[71]})", "conv_1", "the input of"),
        ("merge_subtract", "io_parallel", "", ".x({c_data, b_data, port_data})", ".x({c_data, port_data, b_data})",
         "merge_3", "its input 0 is not the output of 'port'"),
        ("residual", "io_stream", "", ".x1_data(conv_1__merge_9__x1_data)", ".x1_data(conv_4__conv_7__x0_data)",
         "merge_9", "its input 1 is not the output of 'conv_1'"),
    ],
)  # fmt: skip
def test_wires_are_checked(
    row: str, io_type: str, file: str, old: str, new: str, op: str, reason: str, tmp_path: Path
) -> None:
    found = refuted(row, io_type, file, old, new, tmp_path)
    assert set(found) == {op} and re.search(reason, found[op]), found


def test_a_stage_does_what_its_op_is(tmp_path: Path) -> None:
    """Only a reshape passes its words on, and a window is not a window without its line buffer."""
    nets = {
        "has no kernel": Net((3, 2), s(4)).requantize(s(4, 1)),
        "has no line buffer": Net((4, 4, 2), u(4)).conv([[[[1, 2], [2, 1]]]], strides=(2, 2)).requantize(u(4)),
    }
    instead = {
        r"    \w+ kernel \(.*\);\n": "    assign y_data = x0_data;\n",
        r"    po2flow_window(?s:.*?)\n    \);\n": "    assign window = x0_data;\n    assign window_valid = x0_valid;\n",
    }
    for (reason, net), (pattern, text) in zip(nets.items(), instead.items(), strict=True):
        graph = lower(net.graph())
        name = graph.output.name
        files = emitted(graph, "io_stream")
        file = f"{graph.name}_{name}.v"
        wrong = re.sub(pattern, text, files[file])
        assert wrong != files[file]
        (tmp_path / reason).mkdir()
        proof = shown(graph, {**files, file: wrong}, tmp_path / reason, "io_stream")[name]
        assert proof["scope"] == "refuted" and reason in proof["reason"], proof


# ---------------------------------------------------------------------- the whole, in processes of its own


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> tuple[IntGraph, Path]:
    """Return a graph with a branch, and its project on disk."""
    graph, directory = lower(zoo.row("residual")), tmp_path_factory.mktemp("residual") / "project"
    write(emit(graph, Target(backend="rtl", io_type="io_parallel")), directory)
    return graph, directory


def proofs(graph: IntGraph, directory: Path, cache: Path, said: list[str] | None = None) -> dict[str, Proof | Refuted]:
    def announce(words: str, *_: int) -> None:
        if said is not None:
            said.append(words)

    return prove(directory, graph, "io_parallel", time_limit_s=20, cache_dir=cache, tested=77, announce=announce)


def test_what_is_proved_is_kept(residual: tuple[IntGraph, Path], tmp_path: Path) -> None:
    graph, directory = residual
    said: list[str] = []
    found = proofs(graph, directory, tmp_path, said)
    assert list(found) == [op.name for op in graph.ops if not isinstance(op, Input)] and len(said) == len(found)
    for each in found.values():
        assert isinstance(each, Proof)
        assert (each.scope, each.inputs, each.overflow, each.simulated) == ("proved", None, "none, by intervals", "")
        assert bitwuzla_version() in each.engine and each.seconds > 0
    again: list[str] = []
    assert proofs(graph, directory, tmp_path, again) == found and again == []
    assert found["conv_1"].to_json()["scope"] == "proved"


def altered(directory: Path, copy: Path, file: str, old: str, new: str) -> Path:
    """Return a copy of a project with one text replaced once."""
    (copy / "rtl").mkdir(parents=True)
    for path in (directory / "rtl").iterdir():
        text = path.read_text()
        if path.name == file:
            assert old in text
            text = text.replace(old, new, 1)
        (copy / "rtl" / path.name).write_text(text)
    return copy


def test_what_is_wrong_is_refuted_by_name(residual: tuple[IntGraph, Path], tmp_path: Path) -> None:
    graph, directory = residual
    kernel = "zoo_residual_conv_4_kernel"
    text = (directory / "rtl" / f"{kernel}.v").read_text()
    sign = next(each for each in (" + ", " - ") if each in text)
    copy = altered(directory, tmp_path / "copy", f"{kernel}.v", sign, " ^ ")
    found = proofs(graph, copy, tmp_path / "cache")
    assert [name for name, each in found.items() if isinstance(each, Refuted)] == ["conv_4"]
    wrong = found["conv_4"]
    assert isinstance(wrong, Refuted) and wrong.module == kernel and wrong.found != wrong.expected
    assert wrong.inputs is not None and len(wrong.inputs) == 27 and str(wrong).startswith("op 'conv_4': module")
    assert wrong.to_json()["output"] == wrong.output


def test_values_of_different_samples_do_not_meet(residual: tuple[IntGraph, Path], tmp_path: Path) -> None:
    graph, directory = residual
    copy = altered(directory, tmp_path / "copy", "zoo_residual.v", ".DEPTH(5)", ".DEPTH(4)")
    wrong = proofs(graph, copy, tmp_path / "cache")["merge_9"]
    assert isinstance(wrong, Refuted) and "cycles after the sample" in wrong.reason and wrong.inputs is None


def test_without_an_answer_it_is_tested(tmp_path: Path) -> None:
    graph = lower(zoo.row("softmax"))
    write(emit(graph, Target(backend="rtl", io_type="io_parallel")), tmp_path / "project")
    name = graph.output.name
    found = prove(tmp_path / "project", graph, "io_parallel", time_limit_s=0.5, cache_dir=tmp_path, tested=77)[name]
    assert isinstance(found, Proof) and (found.scope, found.inputs, found.overflow) == ("tested", 77, "not shown")
    assert "found no answer in 0.5 s" in found.engine
    kept = tmp_path / f"{name}.json"
    before = kept.stat().st_mtime_ns
    prove(tmp_path / "project", graph, "io_parallel", time_limit_s=0.4, cache_dir=tmp_path, tested=77)
    assert kept.stat().st_mtime_ns == before
    prove(tmp_path / "project", graph, "io_parallel", time_limit_s=0.6, cache_dir=tmp_path, tested=77)
    assert kept.stat().st_mtime_ns > before


def test_a_missing_module_is_named(residual: tuple[IntGraph, Path], tmp_path: Path) -> None:
    graph, directory = residual
    copy = altered(directory, tmp_path / "copy", "zoo_residual_conv_7.v", "module zoo_residual_conv_7", "module other")
    with pytest.raises(EmitError, match="no module 'zoo_residual_conv_7'"):
        proofs(graph, copy, tmp_path / "cache")


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("    reg odd;\n    always @* if (ce) odd = x[0];\n    assign y[0] = odd;\n", "conv_1"),
        ("    reg odd;\n    always @(posedge clk) odd <= x[0];\n", "a register that does not wait for ce"),
        ("    reg odd;\n    always @(negedge clk) if (ce) odd <= x[0];\n", "a register with another clock"),
        ("    wire odd = x[0] & even, even = odd | x[1];\n", "a loop"),
        ("    wire odd = x[x[3:0]];\n", "a cell"),
        ("    assign y[0] = x[0] & x[1];\n", "a wire with two drivers"),
    ],
)
def test_what_no_kernel_has_is_not_read(residual: tuple[IntGraph, Path], new: str, said: str, tmp_path: Path) -> None:
    graph, directory = residual
    file = "zoo_residual_conv_1_kernel.v"
    copy = altered(directory, tmp_path / "copy", file, "endmodule", f"{new}endmodule")
    with pytest.raises(ToolFailedError, match=said) as error:
        proofs(graph, copy, tmp_path / "cache")
    assert str(error.value).startswith("conv_1: ")
    assert "Traceback" not in str(error.value)


def test_bitwuzla_is_asked_for(
    residual: tuple[IntGraph, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitwuzla", None)
    with pytest.raises(ToolMissingError, match="bitwuzla is not installed; pip install"):
        proofs(*residual, tmp_path)


def test_a_trained_model_is_proved_whole(tmp_path: Path) -> None:
    graph = load_graph(REPOSITORY / "models" / "digits_mlp", BuildOptions(output=tmp_path / "runs"))
    for io_type in IO_TYPES:
        write(emit(graph, Target(backend="rtl", io_type=io_type)), tmp_path / io_type)
        found = prove(
            tmp_path / io_type, graph, io_type, time_limit_s=60, cache_dir=tmp_path / f"{io_type}.proofs", tested=0
        )
        for each in found.values():
            assert isinstance(each, Proof) and (each.scope, each.overflow) == ("proved", "none, by intervals")
            assert each.engine == f"affine forms over RTLIL + {bitwuzla_version()}"


# ---------------------------------------------------------------------- scans


def test_the_states_of_a_scan_go_where_they_must(tmp_path: Path) -> None:
    graph = lower(zoo.row("scan"))
    files, (scan, *_) = emitted(graph, "io_stream"), [op for op in graph.ops if isinstance(op, Scan)]
    stage, kernel = f"zoo_scan_{scan.name}.v", f"zoo_scan_{scan.name}_kernel.v"
    for number, (name, old, new, words) in enumerate(
        (
            (stage, ".ROWS(3)", ".ROWS(2)", "does not hold its states for 3 rows"),
            (stage, ".EVERY(1)", ".EVERY(0)", "does not hold its states"),
            (stage, ".x(following)", ".x(states)", "what the states become"),
            (stage, "{states, x0_data}", "{following, x0_data}", "the states that"),
            (kernel, " + ", " - ", "gives"),
        )
    ):
        assert old in files[name]
        changed, directory = {**files, name: files[name].replace(old, new, 1)}, tmp_path / str(number)
        directory.mkdir()
        found = shown(graph, changed, directory, "io_stream")[scan.name]
        assert found["scope"] == "refuted" and words in found["reason"], found


def test_a_row_that_multiplies_many_bits_is_left_to_simulation(tmp_path: Path) -> None:
    body = Net((2,), s(20, 8), "body").port("h", (2,), s(12, 4)).mark("row").merge("multiply", "h").mark("product")
    graph = lower(Net((3, 2), s(20, 8)).scan(body.requantize(s(12, 4)).mark("next"), "next", "next").graph())
    (found,) = shown(graph, emitted(graph, "io_stream"), tmp_path, "io_stream").values()
    assert (found["scope"], found["engine"]) == ("tested", "simulation; rows that multiply are not given to a solver")
