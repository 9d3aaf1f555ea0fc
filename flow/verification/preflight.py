"""Preflight: what conversion would refuse, and what vendor synthesis is known to fail at, before anything is made.

Each rule is a function that yields what it finds: `MODEL_RULES` in the model, `TARGET_RULES` and then `DESIGN_RULES` in
its graph on a target. An error is what `flow build` refuses. A warning is what it goes on with: the vendor's tool may
fail, a check is weaker than one thinks, or the hardware is not what was meant. docs/preflight.md tells what is known of
each limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flow.backends.functions import functions
from flow.backends.hls4ml.kernels import kernel
from flow.backends.hls4ml.layers import legal_reuse_factors, needs_kernel, reuse_refusals
from flow.cost.fifos import PIPELINE_STEPS, fifos, needed_depths
from flow.cost.streams import processes, stream_roots, streams
from flow.errors import FlowError, PreflightError, UnsupportedError
from flow.findings import ERROR, WARNING, Finding, Hit, Rule
from flow.frontend.base import Evaluate, read
from flow.frontend.extraction import Extraction, attempt, quantizes_its_input
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Input, IntGraph, MatMul, Op, Reshape
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS, inexact_in
from flow.ir.passes import lower
from flow.ir.po2 import is_po2, split
from flow.parts import PARTS
from flow.results import ResourceReport
from flow.target import Target

PARTITION_ELEMENTS = 4096
"""Elements of an array that Vivado HLS partitions completely: `MaximumSize` in hls4ml's project script."""
UNROLLED_STEPS = 4096
"""Steps of a loop that Vivado HLS unrolls."""
DESIGN_INSTRUCTIONS = 300_000
"""Instructions beyond which Vitis HLS warns of slow compilation: the value that UG1399 shows for its option."""
RESHAPED_BITS = 65_536
"""Width of an array that Vivado HLS reshapes into one word."""
STREAM_BITS = 4096
"""Width of a word of a stream in Vitis HLS."""
VERILOG_PRODUCTS = 50_000
"""Products of a Verilog design beyond which Yosys takes hours; 5,600 take minutes (docs/synthesis.md)."""
FAST_BITS = 64
"""Width up to which the HLS headers keep a number in one machine word."""
STAND_IN = FixedFormat(False, 0, 8)
"""Format of ports that nothing says the format of, while the rest of the model is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A model before it is a graph.

    Attributes:
        trained: the model.
        input_format: format of the ports that the model does not quantize; None if nothing says it.
        derived: whether that format was derived from inputs.
        softmax, evaluate: as `flow.frontend.extraction.attempt` takes them.
        made: what extraction makes of it.
    """

    trained: TrainedModel
    input_format: FixedFormat | None = None
    derived: bool = False
    softmax: FixedFormat | None = None
    evaluate: Evaluate | None = None
    made: Extraction | None = None

    def extracted(self) -> Model:
        """Return the model with what extraction makes of it; a port that nothing says the format of gets a stand-in."""
        unknown = self.input_format is None and not quantizes(self.trained)
        fmt = STAND_IN if unknown else self.input_format
        return replace(self, made=attempt(self.trained, fmt, softmax=self.softmax, evaluate=self.evaluate))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """A graph on a target.

    Attributes:
        trained: the QKeras model it was made of; None for a float model, which no inference is compared with.
        extracted: before any pass.
        lowered: after them.
        target: hardware settings.
        resources: the static estimate; None where there is none, or not yet.
    """

    trained: TrainedModel | None
    extracted: IntGraph
    lowered: IntGraph
    target: Target
    resources: ResourceReport | None = None


def check(model: Model, target: Target) -> tuple[Finding, ...]:
    """Return all findings about a model on a target; those about the target only if the model can be converted.

    Raises:
        SpecError: the part is not known.
    """
    model = model.extracted()
    assert model.made is not None
    found = tuple(finding for rule in MODEL_RULES for finding in rule.apply(model))
    if any(finding.severity == ERROR for finding in found):
        return found
    extracted = model.made.checked()
    subject = Design(trained=model.trained, extracted=extracted, lowered=lower(extracted), target=target)
    return (*found, *examine(subject))


def examine(subject: Design) -> tuple[Finding, ...]:
    """Return all findings about a design; where it is refused, what else may come is not looked at.

    Raises:
        SpecError: the part is not known.
    """
    found = tuple(finding for rule in TARGET_RULES for finding in rule.apply(subject))
    if found:
        return found
    static = functions(subject.target).estimate
    if subject.resources is None and static is not None:
        subject = replace(subject, resources=static(subject.lowered, subject.target))
    return tuple(finding for rule in DESIGN_RULES for finding in rule.apply(subject))


def refuse(name: str, refusals: Iterable[FlowError]) -> None:
    """Raise what refuses a model, if there is anything: one error, or one of a line each.

    Raises:
        FlowError: there is one.
        PreflightError: there are several.
    """
    located = [refusal.at(model=name) for refusal in refusals]
    if len(located) == 1:
        raise located[0]
    if located:
        raise PreflightError(located)


def to_text(findings: Sequence[Finding]) -> str:
    """Return findings for a terminal: errors first."""
    if not findings:
        return "nothing found"
    lines = []
    for finding in sorted(findings, key=lambda finding: finding.severity):
        lines += [f"{finding.severity:8} {finding.rule}: {finding.reason}", f"         way out: {finding.remedy}"]
        lines += [f"         source: {finding.source}"]
    return "\n".join(lines)


# -- rules about the model


def _no_input_format(model: Model) -> Iterator[Hit]:
    """The model does not quantize its input, and nothing says which format its port has."""
    if model.input_format is None and not quantizes(model.trained):
        reason = "the model does not quantize its input, so its port has no format"
        yield Hit("", reason, "give --input-format, or --inputs to derive it from, or begin with a QActivation")


def _derived_input_format(model: Model) -> Iterator[Hit]:
    """The port's format comes from sample inputs: others may be rounded or clipped."""
    if model.derived and not quantizes(model.trained):
        reason = f"the model does not quantize its input; its port got {model.input_format} from the inputs given"
        yield Hit("", reason, "begin the model with a QActivation, or state the format with --input-format")


def quantizes(trained: TrainedModel) -> bool:
    """Say whether a model quantizes its input; one whose layers cannot be connected is refused for that alone."""
    try:
        return quantizes_its_input(trained)
    except UnsupportedError:
        return True


def _refused(model: Model) -> Iterator[Hit]:
    """A layer, a quantizer or a value has no exact integer form."""
    assert model.made is not None
    yield from map(Hit.of, model.made.refusals)
    if model.made.graph is not None:
        try:
            lower(model.made.graph)
        except FlowError as error:
            yield Hit.of(error)


MODEL_RULES: tuple[Rule[Model], ...] = (
    Rule("input-not-quantized", ERROR, "docs/numerics.md, The input port", _no_input_format),
    Rule("input-format-derived", WARNING, "docs/numerics.md, The input port", _derived_input_format),
    Rule("unsupported", ERROR, "flow/frontend/extraction/: what is exact is converted, the rest refused", _refused),
)


# -- rules about what a back end takes


def _illegal_reuse_factors(subject: Design) -> Iterator[Hit]:
    """A reuse factor that hls4ml would change, or of an op that is not there."""
    yield from map(Hit.of, reuse_refusals(subject.lowered, subject.target))


def _back_end_refusals(subject: Design) -> Iterator[Hit]:
    """An op that the back end cannot compute exactly."""
    yield from map(Hit.of, functions(subject.target).refusals(subject.lowered, subject.target))


# -- rules about the vendor's synthesis


def _matmuls(subject: Design, backend: str, strategy: str) -> Iterator[tuple[MatMul, int, int]]:
    """Yield dense and convolution ops with the size of the matrix hls4ml makes of each, on such a target only."""
    if (subject.target.backend, subject.target.strategy) == (backend, strategy):
        for op in subject.lowered.ops:
            if isinstance(op, MatMul):
                n_in, n_out = op.matrix().shape
                yield op, n_in, n_out


def _reused(op: MatMul, n_in: int, n_out: int) -> str:
    """Return the options under which an op's loop is short enough."""
    factor = next(each for each in legal_reuse_factors(n_in, n_out) if n_in * n_out <= each * UNROLLED_STEPS)
    return f"--strategy Resource --reuse-factor {op.name}={factor}"


def _large_arrays(subject: Design) -> Iterator[Hit]:
    """An array that Vivado HLS has to partition completely is too large for it."""
    for op, n_in, n_out in _matmuls(subject, "Vivado", "Latency"):
        if n_in * n_out > PARTITION_ELEMENTS:
            reason = f"op '{op.name}' has {n_in} x {n_out} products in one array of registers, Vivado HLS takes"
            remedy = f"use {_reused(op, n_in, n_out)}, or --backend Vitis, of which no such limit is known"
            yield Hit(op.name, f"{reason} {PARTITION_ELEMENTS}", remedy)
    if subject.target.backend == "Vivado" and subject.target.io_type == "io_parallel":
        for each in subject.lowered.ops:
            size = math.prod(each.shape)
            if size > PARTITION_ELEMENTS and not isinstance(each, Input | Reshape):
                reason = f"op '{each.name}' has an output of {size} elements in registers, Vivado HLS takes"
                yield Hit(each.name, f"{reason} {PARTITION_ELEMENTS}", "use --io-type io_stream, or --backend Vitis")


def _long_loops(subject: Design) -> Iterator[Hit]:
    """A loop that Vivado HLS has to unroll is too long for it."""
    for op, n_in, n_out in _matmuls(subject, "Vivado", "Resource"):
        steps = math.ceil(n_in * n_out / subject.target.reuse(op.name))
        if steps > UNROLLED_STEPS:
            reason = f"op '{op.name}' unrolls {steps} of its {n_in * n_out} products, Vivado HLS stops beyond"
            yield Hit(op.name, f"{reason} {UNROLLED_STEPS}", f"use {_reused(op, n_in, n_out)} or more")


def _large_designs(subject: Design) -> Iterator[Hit]:
    """Unrolled loops make more instructions than Vitis HLS compiles in usual time."""
    strategy, counts = subject.target.strategy, {}
    for op, n_in, n_out in _matmuls(subject, "Vitis", strategy):
        reuse = subject.target.reuse(op.name) if strategy == "Resource" else 1
        counts[op.name] = 2 * math.ceil(n_in * n_out / reuse)
    if sum(counts.values()) > DESIGN_INSTRUCTIONS:
        largest = max(counts, key=lambda name: counts[name])
        reason = f"unrolled products and sums are {sum(counts.values())} instructions, {counts[largest]} of them in"
        remedy = f"use --strategy Resource with a reuse factor for op '{largest}', or expect hours"
        yield Hit(largest, f"{reason} op '{largest}'; Vitis HLS warns from {DESIGN_INSTRUCTIONS}", remedy)


def _wide_words(subject: Design) -> Iterator[Hit]:
    """A word that Vivado HLS has to make of a whole array is too wide for it."""
    for op, n_in, n_out in _matmuls(subject, "Vivado", "Resource"):
        stored = split(op.weight).stored_bits if is_po2(op.weight) else op.weight_format.width
        bits = stored * math.ceil(n_in * n_out / subject.target.reuse(op.name))
        if bits > RESHAPED_BITS:
            reason = f"op '{op.name}' reads {bits} bits of weights at once, Vivado HLS takes {RESHAPED_BITS}"
            yield Hit(op.name, reason, f"use a larger reuse factor for op '{op.name}'")
    if subject.target.backend == "Vivado" and subject.target.io_type == "io_parallel":
        for port in subject.lowered.inputs:
            bits = math.prod(port.shape) * port.format.width
            if bits > RESHAPED_BITS:
                reason = f"op '{port.name}' is a port of {bits} bits, Vivado HLS takes {RESHAPED_BITS}"
                yield Hit(port.name, reason, "use --io-type io_stream")


def _wide_streams(subject: Design) -> Iterator[Hit]:
    """A stream whose words are too wide for Vitis HLS."""
    if (subject.target.backend, subject.target.io_type) != ("Vitis", "io_stream"):
        return
    roots = stream_roots(subject.lowered)
    for op in subject.lowered.ops:
        bits = op.shape[-1] * op.format.width
        if roots[op.name] == op.name and bits > STREAM_BITS:
            reason = f"op '{op.name}' has stream words of {op.shape[-1]} channels, {bits} bits"
            yield Hit(op.name, f"{reason}, Vitis HLS takes {STREAM_BITS}", "use fewer channels or bits, or io_parallel")


def _shallow_branches(subject: Design) -> Iterator[Hit]:
    """A branch's FIFO is too shallow for the pipeline beside it: the streams would wait for each other forever."""
    if subject.target.io_type != "io_stream" or subject.resources is None:
        return
    longest = max((_pipeline_stages(layer) for layer in subject.resources.layers), default=0)
    if longest <= PIPELINE_STEPS:  # the depths are made for these
        return
    built = {fifo.stream: fifo for fifo in fifos(subject.lowered)}
    for stream, needed in needed_depths(processes(subject.lowered, streams(subject.lowered)), longest).items():
        fifo = built[stream]
        if fifo.depth < needed:
            reason = f"op '{fifo.op}' has a FIFO of depth {fifo.depth} in stream '{stream}', {needed} are needed"
            remedy = "use a longer clock period or io_parallel, or set the depth in the project by hand"
            yield Hit(fifo.op, f"{reason} beside a pipeline of {longest} stages", remedy)


def _pipeline_stages(layer: Any) -> int:
    """Return about how many stages an op's pipeline has: its latency beyond what it needs to read its words."""
    return max(0, (layer.latency_cycles or 0) - (layer.initiation_interval_cycles or 0) + 1)


def _small_part(subject: Design) -> Iterator[Hit]:
    """The part holds less than the static estimate."""
    if subject.resources is None:
        return
    needed = {key: int(getattr(subject.resources.total, key) or 0) for key in subject.resources.capacity}
    short = [key for key, count in needed.items() if count > subject.resources.capacity[key]]
    if short:
        words = ", ".join(f"{needed[key]} {key} of {subject.resources.capacity[key]}" for key in short)
        fitting = (part for part in PARTS if all(part.capacity()[key] >= count for key, count in needed.items()))
        part = min(fitting, key=lambda part: part.lut, default=None)
        larger = f"--part {part.name}" if part else "fewer weights (no known part holds it)"
        remedy = f"use {larger}, or --strategy Resource with a larger reuse factor"
        yield Hit("", f"the static estimate takes {words} on {subject.target.part}", remedy)


# -- rules about the checks of a build


def _wide_types(subject: Design) -> Iterator[Hit]:
    """A type beyond what the HLS headers compute in one machine word: C simulation crawls."""
    if subject.target.backend not in ("Vitis", "Vivado"):
        return
    for op in subject.lowered.ops:
        bits = _widest_type(op, subject)
        if bits > FAST_BITS:
            reason = f"op '{op.name}' computes in types of {bits} bits; C simulation is fast up to {FAST_BITS}"
            yield Hit(op.name, reason, "use fewer bits for its weights or its input, or expect C simulation to be slow")


def _widest_type(op: Op, subject: Design) -> int:
    """Return the width of the widest type that an op computes in."""
    widths = [op.format.width]
    if isinstance(op, MatMul):
        x, weight = subject.lowered.sources(op)[0].format.width, op.weight_format.width
        if subject.target.strategy == "Resource" and is_po2(op.weight):
            weight = 2 + (1 << split(op.weight).exponent_bits) - 1  # `nnet_po2.h`: the shift, a sign, a negation
        widths += [x + weight, 1 + (op.accumulator.width if op.accumulator else 0)]
    stream = subject.target.io_type == "io_stream"
    if needs_kernel(op, subject.target):
        config = kernel(op, subject.lowered, stream).config
        widths += [int(bits) for bits in re.findall(r"_bits = (\d+);", config)]
    return max(widths)


def _inexact_floats(subject: Design) -> Iterator[Hit]:
    """QKeras' float32 does not compute the model exactly: a build compares with float64 instead."""
    if subject.trained is None:
        return
    wide = inexact_in(subject.extracted, FLOAT32_BITS)
    if wide:
        reason = f"{_named(wide)} may need more than {FLOAT32_BITS} bits, so float32 inference may round"
        remedy = "use fewer bits for weights or activations, or take the float64 results as the model's"
        yield Hit(wide[0].name, reason, remedy)
    for layer in read(subject.trained).layers:
        if layer.rounds:
            reason = f"{layer.described} rounds in float32; the hardware computes it exactly"
            yield Hit(layer.name, reason, "use FixedBatchNormalization, or take the float64 results as the model's")


def _uncheckable_sums(subject: Design) -> Iterator[Hit]:
    """Results beyond float64: no software inference can be held against the hardware."""
    wide = () if subject.trained is None else inexact_in(subject.extracted, FLOAT64_BITS)
    if wide:
        reason = f"{_named(wide)} may need more than {FLOAT64_BITS} bits, so no float can check it"
        yield Hit(wide[0].name, reason, "use fewer bits for its weights or its input")


def _named(ops: Sequence[Op]) -> str:
    return f"op '{ops[0].name}'" + (f" and {len(ops) - 1} more" if len(ops) > 1 else "")


def _revived_weights(subject: Design) -> Sequence[Hit]:
    """Pruned weights that their quantizer turns back into non-zeros."""
    return () if subject.trained is None else subject.trained.warnings


TARGET_RULES: tuple[Rule[Design], ...] = (
    Rule(
        "reuse-factor",
        ERROR,
        "hls4ml 1.3.0, FPGABackend._validate_reuse_factor",
        _illegal_reuse_factors,
    ),
    Rule(
        "back-end",
        ERROR,
        "writers and headers of hls4ml 1.3.0, docs/numerics.md",
        _back_end_refusals,
    ),
    Rule(
        "float64-inexact",
        ERROR,
        "IEEE 754 binary64, docs/numerics.md, Carriers",
        _uncheckable_sums,
    ),
)


def _large_verilog(subject: Design) -> Iterator[Hit]:
    """Verilog of so many adders that open tools take hours for it."""
    if subject.target.backend != "rtl":
        return
    stream = subject.target.io_type == "io_stream"
    for op in subject.lowered.ops:
        if isinstance(op, MatMul):
            places = 1 if stream else math.prod(op.shape[:-1])
            products = places * int((op.matrix() != 0).sum())
            if products > VERILOG_PRODUCTS:
                reason = f"op '{op.name}' has {products} products with a circuit of their own, at {places} places"
                yield Hit(op.name, reason, "use --io-type io_stream or more zeros, or expect hours of synthesis")


DESIGN_RULES: tuple[Rule[Design], ...] = (
    Rule(
        "array-partition",
        WARNING,
        "hls4ml issue #1157: Vivado HLS error XFORM 203-103 beyond config_array_partition -maximum_size",
        _large_arrays,
    ),
    Rule(
        "unroll",
        WARNING,
        "hls4ml issues #904 and #1013: Vivado HLS error XFORM 203-504",
        _long_loops,
    ),
    Rule(
        "design-size",
        WARNING,
        "Vitis HLS User Guide UG1399, Compile Options, syn.compile.design_size_maximum_warning",
        _large_designs,
    ),
    Rule(
        "reshape-width",
        WARNING,
        "hls4ml issue #506: Vivado HLS error XFORM 203-133",
        _wide_words,
    ),
    Rule(
        "stream-width",
        WARNING,
        "Xilinx/Vitis-HLS-Introductory-Examples issue #19: bit width of a stream beyond 4096",
        _wide_streams,
    ),
    Rule(
        "fifo-depth",
        WARNING,
        "computed from the graph, docs/streams.md",
        _shallow_branches,
    ),
    Rule(
        "part-too-small",
        WARNING,
        "static estimate against the vendor's tables, docs/estimates.md",
        _small_part,
    ),
    Rule(
        "wide-type",
        WARNING,
        "ap_private.h of the HLS headers: one machine word where _AP_W <= 64",
        _wide_types,
    ),
    Rule(
        "float32-inexact",
        WARNING,
        "IEEE 754 binary32, docs/numerics.md, Carriers",
        _inexact_floats,
    ),
    Rule(
        "verilog-size",
        WARNING,
        "measured with Yosys 0.70, docs/synthesis.md",
        _large_verilog,
    ),
    Rule(
        "pruned-weights-lost",
        WARNING,
        "quantized_po2 of QKeras 0.9.0, docs/numerics.md, Zero",
        _revived_weights,
    ),
)
