"""Print what our networks cost in look-up tables beside what they are held against, all counted by one Yosys script.

    python benchmarks/hardware.py [--models NAME ...] [--rows a b c d] [--skip NAME:ROW ...] [--build DIR] [--record]

Four networks of one topology, on the same test split:

    a  ours: pruned powers of two, through `--backend rtl`
    b  the same spec with 6-bit `quantized_bits` kernels over the same range and no pruning, trained here, same back end
    c  the weights of (a), traced layer by layer with alkaid alone; once rounding as QKeras does, once half up
    d  trained by HGQ2 and traced by alkaid, in an environment of its own that is made below the build directory

Each row is kept in the build directory under a digest of what it depends on, so that a run that was stopped goes on
where it was. `--record` writes benchmarks/data/hardware.json and docs/images/mnist-lut.svg. Needs `po2flow[train,rtl]`,
the data sets, and for (d) a package index.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hardware_plot import plot
from numpy.typing import NDArray
from stock import markdown_table

from flow.backends.rtl.simulation import rtlsim
from flow.backends.rtl.synthesis.synth import synthesize
from flow.backends.rtl.verilog.emit import emit
from flow.backends.yosys.scripts import yosys_version
from flow.data.datasets import Dataset, load_dataset
from flow.data.inputs import Samples, to_port
from flow.errors import FlowError
from flow.frontend.extraction import extract
from flow.frontend.trained import TrainedModel, load_trained
from flow.ir import reference
from flow.ir.fixed import to_values
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import digest_files, write
from flow.runs import keep, read_kept
from flow.target import Target
from flow.toolchain import run_tool
from flow.train.spec import BatchNormSpec, DenseSpec, LayerSpec, ModelSpec, ReluSpec, find_model_dir, load_spec

HERE = Path(__file__).resolve().parent
RECORD = HERE / "data" / "hardware.json"
PUBLISHED = HERE / "data" / "mnist_published.json"
PLOT = HERE.parent / "docs" / "images" / "mnist-lut.svg"

HEADER = ["model", "row", "accuracy", "LUT", "FF", "carry", "DSP", "cycles"]
MODELS = ("digits_mlp", "mnist_mlp")
TARGET = Target(backend="rtl", io_type="io_parallel")
LATENCY_CUTOFF = 5.0
"""What alkaid's command line takes for a clock period of 5 ns, ours too; units of its delay model per stage."""
TOLERATED = 0.01
"""Accuracy that a comparison may give away: 1 pp."""
SIMULATED = 256
"""Test inputs on which the Verilog of (a) and (b) is run."""
TIMEOUT_S = 4 * 3600.0
HGQ2_PACKAGES = ("HGQ2==0.2.0", "keras==3.15.1", "jax==0.10.2", "alkaid==0.8.2")
HGQ2_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "digits_mlp": {"epochs": 1500, "batch-size": 64, "learning-rate": 0.005, "betas": (1e-6, 5e-4)},
    "mnist_mlp": {"epochs": 500, "batch-size": 512, "learning-rate": 0.005, "betas": (1e-7, 1e-4)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A network and what Yosys makes of it.

    Attributes:
        model: name of the topology.
        row: "a", "b", "c", "c, half up", "d" or "d, as accurate".
        accuracy: over the whole test split, a fraction.
        lut, ff, carry, dsp: cells of the whole design.
        latency_cycles: registers from input to output.
        tool: what counted.
        facts: what else was measured (JSON types).
    """

    model: str
    row: str
    accuracy: float
    lut: int
    ff: int
    carry: int
    dsp: int
    latency_cycles: int
    tool: str
    facts: Mapping[str, Any]

    def cells(self) -> list[str]:
        counts = (self.lut, self.ff, self.carry, self.dsp, self.latency_cycles)
        return [self.model, self.row, f"{100 * self.accuracy:.2f} %", *(f"{count:,}" for count in counts)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A topology: its spec, the trained model of (a), the data, and where its rows are built."""

    spec: ModelSpec
    trained: TrainedModel
    data: Dataset
    directory: Path
    build: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=list("abcd"), choices=list("abcd"), metavar="ROW")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME:ROW", help="rows to leave out")
    parser.add_argument("--build", type=Path, default=Path("build/hardware"), metavar="DIR")
    parser.add_argument("--record", action="store_true", help="write the data and the plot of docs/benchmarks.md")
    arguments = parser.parse_args()
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for name in arguments.models:
        subject = load_subject(name, arguments.build.resolve())
        for letter in arguments.rows:
            if f"{name}:{letter}" in arguments.skip:
                missing[f"{name}, {letter}"] = "left out with --skip"
                continue
            try:
                rows += MEASURES[letter](subject)
            except FlowError as error:
                missing[f"{name}, {letter}"] = str(error).strip().splitlines()[-1]
                say(f"{name}, {letter}: not measured: {error}")
    print(markdown_table(HEADER, [row.cells() for row in rows]))
    print(f"\n{yosys_version()}, {TARGET.part}")
    for what, why in missing.items():
        print(f"not measured: {what}: {why}")
    print()
    for line in goals(rows):
        print(line)
    if arguments.record:
        record(rows, missing)


def load_subject(name: str, build: Path) -> Subject:
    directory = find_model_dir(name)
    spec = load_spec(directory)
    data = load_dataset(spec.dataset, download=False)
    return Subject(spec=spec, trained=load_trained(directory), data=data, directory=build / name, build=build)


def ours(subject: Subject) -> Iterator[Row]:
    """Yield (a)."""
    yield _through_our_back_end(subject, "a", subject.trained)


def six_bits(subject: Subject) -> Iterator[Row]:
    """Yield (b)."""
    yield _through_our_back_end(subject, "b", _train_six_bits(subject))


def alkaid_alone(subject: Subject) -> Iterator[Row]:
    """Yield both roundings of (c)."""
    yield _through_alkaid(subject, "c", "RND_CONV")
    yield _through_alkaid(subject, "c, half up", "RND")


def hgq2(subject: Subject) -> Iterator[Row]:
    """Yield two points of (d) from one training: about as accurate as (a), and as accurate, on the validation split."""
    spec, directory = subject.spec, subject.directory / "d"
    units = [layer.units for layer in spec.layers if isinstance(layer, DenseSpec)]
    accuracy = _accuracy_of_ours(subject)
    wanted = {"d": round(accuracy - TOLERATED, 4), "d, as accurate": round(accuracy, 4)}
    options = {"units": units, "accuracies": list(wanted.values()), **HGQ2_SETTINGS[spec.name]}
    depends = [options, (HERE / "hgq2_net.py").read_text(), HGQ2_PACKAGES]

    def measure(place: int, row: str) -> Row:
        if read_kept(directory / "trained.json", _key("trained", depends)) is None:
            _train_hgq2(subject, directory, options)
            keep(directory / "trained.json", _key("trained", depends), True)
        facts = json.loads((directory / str(place) / "result.json").read_text())
        accuracy, latency = facts.pop("accuracy"), facts.pop("latency_cycles")
        facts["options"] = options
        return _synthesized(subject, row, directory / str(place), "hgq2_net", accuracy, latency, facts)

    for place, row in enumerate(wanted):
        yield _cached(subject, row, depends, partial(measure, place, row))


def _train_hgq2(subject: Subject, directory: Path, options: Mapping[str, Any]) -> None:
    python = _hgq2_environment(subject.build)
    directory.mkdir(parents=True, exist_ok=True)
    data = subject.data
    splits: dict[str, NDArray[Any]] = {
        "x_train": data.x_train,
        "y_train": data.y_train,
        "x_test": data.x_test,
        "y_test": data.y_test,
    }
    np.savez(directory / "data.npz", allow_pickle=False, **splits)
    command = [str(python), str(HERE / "hgq2_net.py"), "data.npz", ".", "--latency-cutoff", str(LATENCY_CUTOFF)]
    for name, value in options.items():
        command += [f"--{name}", *map(str, value if isinstance(value, list | tuple) else [value])]
    run_tool(command, directory, TIMEOUT_S)


MEASURES: Mapping[str, Callable[[Subject], Iterator[Row]]] = {
    "a": ours,
    "b": six_bits,
    "c": alkaid_alone,
    "d": hgq2,
}


def _through_our_back_end(subject: Subject, row: str, trained: TrainedModel) -> Row:
    directory, graph = subject.directory / row, lower(extract(trained, None))
    project = emit(graph, TARGET)

    def measure() -> Row:
        write(project, directory)
        codes, outputs = _reference_outputs(graph, subject.data)
        program = rtlsim.compile_rtl(directory, graph, TARGET.io_type, subject.build / "rtlsim")
        run = rtlsim.run_rtl(program, graph, codes[:SIMULATED])
        simulated = to_values(run.codes[graph.output.name], graph.output.format)
        assert np.array_equal(simulated, outputs[:SIMULATED]) and run.latency_cycles is not None
        accuracy = _accuracy(outputs, subject.data)
        return _synthesized(subject, row, directory, graph.name, accuracy, run.latency_cycles, _weights(trained))

    return _cached(subject, row, [trained.digest(), digest_files(project.files)], measure)


def _through_alkaid(subject: Subject, row: str, rounding: str) -> Row:
    directory = subject.directory / row.replace(", ", "-").replace(" ", "-")

    def measure() -> Row:
        from alkaid.codegen import RTLModel

        graph = lower(extract(subject.trained, None))
        codes, expected = _reference_outputs(graph, subject.data)
        comb = _traced(subject, rounding)
        outputs = comb.predict(to_values(codes, graph.inputs[0].format).astype(np.float64))
        rtl = RTLModel(comb, directory / "rtl", prj_name=graph.name, latency_cutoff=LATENCY_CUTOFF)
        rtl.write()
        differ = float(np.mean(outputs != expected))
        assert rounding != "RND_CONV" or differ == 0, f"{graph.name}: {differ} of alkaid's outputs are others"
        latency = rtl.fsm.out_signals[0].schedule.bias
        facts = {"rounding": rounding, "outputs_differ_from_a": differ}
        return _synthesized(subject, row, directory, graph.name, _accuracy(outputs, subject.data), latency, facts)

    versions = [version("alkaid"), LATENCY_CUTOFF, rounding]
    return _cached(subject, row, [subject.trained.digest(), *versions], measure)


def _traced(subject: Subject, rounding: str) -> Any:
    """Return alkaid's program of the layers as trained, one NumPy expression each, with alkaid's own settings."""
    from alkaid.trace import FVArray, trace

    port, count = subject.spec.input.format, math.prod(subject.spec.input.shape)
    x = y = FVArray.from_kif(*(np.full(count, part) for part in (port.signed, port.int_bits, port.frac_bits)))
    for layer in subject.spec.layers:
        arrays = subject.trained.weights.get(layer.name, {})
        if isinstance(layer, DenseSpec):
            y = y @ arrays["kernel"] + arrays.get("bias", np.zeros(layer.units))
        elif isinstance(layer, BatchNormSpec):
            y = y * arrays["scale"] + arrays["offset"]
        else:
            assert isinstance(layer, ReluSpec), layer
            fmt = layer.format
            y = np.maximum(y, 0).quantize(0, fmt.int_bits, fmt.frac_bits, overflow_mode="SAT", round_mode=rounding)
    return trace(x, y)


def _train_six_bits(subject: Subject) -> TrainedModel:
    """Return the spec trained without pruning and with 6-bit kernels; trained once per spec."""
    from flow.train import fit
    from flow.train.build import build_quantized, qkeras

    layers = [replace(layer, sparsity=0.0) if isinstance(layer, DenseSpec) else layer for layer in subject.spec.layers]
    spec = replace(subject.spec, layers=tuple(layers))
    directory = subject.directory / f"six-bits-{sha256(repr(spec).encode()).hexdigest()[:12]}"
    if (directory / "trained.json").exists():
        return load_trained(directory)

    def six_bit_kernel(layer: Any, layer_spec: LayerSpec) -> Any:
        if not isinstance(layer_spec, DenseSpec):
            return layer
        values = layer_spec.kernel
        width = 1 + values.max_exponent - values.min_exponent
        assert width == 6, f"{layer_spec.name}: {values} with a sign takes {width} bits"
        return qkeras.QDense(
            layer_spec.units,
            name=layer_spec.name,
            use_bias=layer_spec.bias is not None,
            kernel_initializer="he_normal",
            kernel_quantizer=qkeras.quantized_bits(width, values.max_exponent, 0, 1, alpha=1.0),
            bias_quantizer=layer.bias_quantizer,
        )

    def build(spec: ModelSpec, wrap: Any) -> Any:
        return build_quantized(spec, lambda layer, layer_spec: wrap(six_bit_kernel(layer, layer_spec), layer_spec))

    say(f"{spec.name}: training 6-bit kernels")
    with patch.object(fit, "build_quantized", build):
        return fit.train(spec, directory, dataset=subject.data)


def _hgq2_environment(build: Path) -> Path:
    """Return the Python of an environment with HGQ2, made if it is not there.

    Raises:
        ToolFailedError: the packages cannot be installed here.
    """
    directory = build / "hgq2-environment"
    python, complete = directory / "bin" / "python", directory / "complete"
    if not complete.exists() or complete.read_text() != repr(HGQ2_PACKAGES):
        say(f"making {directory}: {' '.join(HGQ2_PACKAGES)}")
        run_tool([sys.executable, "-m", "venv", str(directory)], Path.cwd())
        run_tool([str(python), "-m", "pip", "install", "--quiet", *HGQ2_PACKAGES], Path.cwd())
        complete.write_text(repr(HGQ2_PACKAGES))
    return python


def _synthesized(
    subject: Subject, row: str, directory: Path, top: str, accuracy: float, latency: int, facts: Mapping[str, Any]
) -> Row:
    """Return the row of a project with `rtl/`, after the same synthesis for all of them."""
    started = time.perf_counter()
    cache = subject.directory / "yosys" / directory.relative_to(subject.directory)
    report = synthesize(directory, top, (), TARGET, cache, timeout_s=TIMEOUT_S)
    total = report.total
    return Row(
        model=subject.spec.name,
        row=row,
        accuracy=accuracy,
        lut=total.lut or 0,
        ff=total.ff or 0,
        carry=total.detail["carry"],
        dsp=total.dsp or 0,
        latency_cycles=latency,
        tool=report.tool,
        facts={**facts, "yosys_seconds": round(time.perf_counter() - started, 1), "command": report.command},
    )


def _cached(subject: Subject, row: str, depends: Sequence[Any], measure: Callable[[], Row]) -> Row:
    """Return a row from the build directory if it was measured there from the same; else measure and keep it."""
    path = subject.directory / "rows" / f"{row}.json"
    key = _key(row, depends)
    found = read_kept(path, key)
    if found is None:
        say(f"{subject.spec.name}, {row}: measuring")
        started = time.perf_counter()
        found = asdict(measure())
        keep(path, key, found)
        say(f"{subject.spec.name}, {row}: {found['lut']:,} LUT, {time.perf_counter() - started:.0f} s")
    return Row(**found)


def _key(what: str, depends: Sequence[Any]) -> str:
    return sha256(json.dumps([what, list(depends), TARGET.to_json(), yosys_version()]).encode()).hexdigest()


def _reference_outputs(graph: IntGraph, data: Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the codes of the test inputs, and the logits that the reference makes of them."""
    codes = to_port(Samples(values=data.x_test, labels=None, source=data.source), graph).codes
    return codes, to_values(reference.run_output(graph, codes), graph.output.format)


def _accuracy(outputs: NDArray[Any], data: Dataset) -> float:
    return float(np.mean(outputs.argmax(axis=1) == data.y_test))


def _accuracy_of_ours(subject: Subject) -> float:
    return _accuracy(_reference_outputs(lower(extract(subject.trained, None)), subject.data)[1], subject.data)


def _weights(trained: TrainedModel) -> dict[str, int]:
    kernels = [group["kernel"] for group in trained.weights.values() if "kernel" in group]
    return {
        "weights": sum(kernel.size for kernel in kernels),
        "nonzero_weights": sum(int(np.count_nonzero(kernel)) for kernel in kernels),
    }


def goals(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line per goal and model: what was measured, and whether it was met."""
    for model in dict.fromkeys(row.model for row in rows):
        by = {row.row: row for row in rows if row.model == model}
        if "a" in by and "b" in by:
            ratio, lost = by["a"].lut / by["b"].lut, by["b"].accuracy - by["a"].accuracy
            met = ratio <= 0.5 and lost <= TOLERATED
            yield f"{model}: (a) / (b) {ratio:.3f} LUT, goal <= 0.5; {100 * lost:+.2f} pp lost, goal <= 1: {_met(met)}"
        if "a" in by and "c" in by:
            ratio = by["a"].lut / by["c"].lut
            yield f"{model}: (a) / (c) {ratio:.3f} LUT, goal <= 1.0: {_met(ratio <= 1)}"
        for row in ("d", "d, as accurate"):
            if "a" in by and row in by:
                ratio, lost = by["a"].lut / by[row].lut, by[row].accuracy - by["a"].accuracy
                yield f"{model}: (a) / ({row}) {ratio:.3f} LUT, {100 * lost:+.2f} pp lost; no goal"


def _met(met: bool) -> str:
    return "met" if met else "NOT met"


def record(rows: Sequence[Row], missing: Mapping[str, str]) -> None:
    """Write what was measured, and the plot of MNIST."""
    data = {
        "tool": yosys_version(),
        "target": TARGET.to_json(),
        "latency_cutoff": LATENCY_CUTOFF,
        "rows": [asdict(row) for row in rows],
        "not_measured": dict(missing),
        "goals": list(goals(rows)),
    }
    RECORD.write_text(json.dumps(data, indent=1) + "\n")
    published = json.loads(PUBLISHED.read_text())
    PLOT.write_text(plot([row for row in rows if row.model == "mnist_mlp"], published["points"]) + "\n")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
