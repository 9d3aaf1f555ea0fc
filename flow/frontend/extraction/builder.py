"""What extraction builds with: tensors whose values may still wait, layers as they are called, the graph so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.data.inputs import Samples, to_port
from flow.errors import FlowError, UnsupportedError, counted
from flow.frontend.base import Evaluate
from flow.frontend.extraction.approximation import Approximation, Values, best_cast, on_grid
from flow.frontend.extraction.steps import MOST_STEPS, Ordinals, cut_before, find_steps, number, ordinal, ordinals
from flow.frontend.layers import ClippedLine, Function, Layer, Margins, Network, Padding
from flow.ir import reference
from flow.ir.fixed import CODE_BITS, Cast, Codes, Constant, FixedFormat, exact_codes, to_values
from flow.ir.graph import BatchNorm, Gather, Input, IntGraph, Lookup, Op, Relu, Requantize
from flow.ir.intervals import FLOAT64_BITS, exact_result
from flow.ir.names import identifier
from flow.ir.scaling import Line, cuts_of, has_thresholds, shortened, stepped, together
from flow.ir.tables import TABLE_INPUT_BITS, runs
from flow.ir.windows import Shape, Window

WEIGHT_BITS = FLOAT64_BITS
"""Widest weight accepted: what float64 holds, in which software checks their sums."""
TABLE_VALUE_BITS = 24
"""Widest value of a table that ends in no quantizer: a float32 that lies on no coarser grid is not quantized."""
PRECISE_FALTERS = 1
"""Units in the last place of float32 that a function computed in float64 and rounded is trusted to be right to."""
FEW_CODES = 1 << 20
"""Codes of an op for all samples that are kept, so that none but new ops are computed for the next format."""
SPREAD = 1 << 22
"""Most pixels of a padded input or of a dilated window: more is damage or malice."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a layer gives: the codes of an op, and what still has to be done to them before they are its values.

    Attributes:
        op: name of the op.
        lines: of a batch normalization whose result is beyond codes: what becomes of the op's values in each channel.
        relu: whether negative results of these lines are zero.
        divisor: the values are the codes' values divided by this.
        functions: element-wise functions applied to them after that.
        layers: calls that the op does not stand for yet, because of the above.
        softmax: the final softmax that was left off, if this is its result.
        further: the other outputs of the layer.
        turned: whether the values have the channels of the codes as their first axis.
    """

    op: str
    lines: tuple[Line, ...] = ()
    relu: bool = False
    divisor: int = 1
    functions: tuple[Function, ...] = ()
    layers: tuple[str, ...] = ()
    softmax: str | None = None
    further: tuple[Tensor, ...] = ()
    turned: bool = False

    @property
    def waits(self) -> bool:
        """Whether its values are not yet codes."""
        return self.divisor != 1 or bool(self.functions) or bool(self.lines) or self.turned

    @property
    def clipped(self) -> ClippedLine | None:
        """The clipped line that alone waits on it, if one does."""
        alone = len(self.functions) == 1 and self.divisor == 1 and not self.lines
        return self.functions[0].line if alone else None


def waiting(made: Tensor, source: Tensor) -> Tensor:
    """Return the tensor of an op that was appended to another one, with what waits on that one."""
    return replace(made, lines=source.lines, relu=source.relu, divisor=source.divisor, functions=source.functions)


def precisely(function: Function) -> Function:
    """Return a function as float64 computes it, or itself if that is no other."""
    if function.precise is None:
        return function
    return replace(
        function,
        source=function.precise,
        falters=None if function.falters is None else min(function.falters, PRECISE_FALTERS),
    )


def array_codes(layer: Layer[Any], key: str) -> Constant:
    """Return an array of a layer as codes in the narrowest format.

    Raises:
        UnsupportedError: it is missing, not finite, or spans more bits than codes have.
    """
    values = layer.arrays.get(key)
    if values is None:
        raise UnsupportedError(f"{key} is missing from the model file")
    try:
        return exact_codes(values)
    except FlowError as error:
        raise UnsupportedError(error.what, field=key, remedy=error.remedy) from None


def _weight_codes(layer: Layer[Any], key: str, quantizer: str) -> Constant:
    constant = array_codes(layer, key)
    if constant.format.width > WEIGHT_BITS:
        raise UnsupportedError(
            f"{key} needs {constant.format.width} bits to be exact, more than {WEIGHT_BITS}",
            remedy=f"give the layer a {quantizer} such as quantized_bits or quantized_po2, or round it on request: "
            "--float-layers 12; a float model is quantized by 'flow quantize'",
        )
    return constant


def kernel_codes(layer: Layer[Any], axes: int, key: str = "kernel", quantizer: str = "kernel_quantizer") -> Constant:
    """Return an array of `axes` axes as codes; `quantizer` is what its quantizer is called.

    Raises:
        UnsupportedError: it needs more than `WEIGHT_BITS` bits, or has other axes.
    """
    kernel = _weight_codes(layer, key, quantizer)
    if kernel.codes.ndim != axes:
        raise UnsupportedError(f"{key} {kernel.codes.shape} does not fit", remedy=f"it has {axes} axes")
    return kernel


def bias_codes(layer: Layer[Any], channels: int) -> Constant:
    """Return the bias of a layer as codes: zeros if it has none."""
    if not layer.settings.biased:
        return Constant.zeros(channels)
    bias = _weight_codes(layer, "bias", "bias_quantizer")
    if bias.codes.shape != (channels,):
        raise UnsupportedError(f"bias {bias.codes.shape} does not fit {counted(channels, 'output')}")
    return bias


def counts_rows(fmt: FixedFormat) -> bool:
    """Say whether the codes of a format are numbers of rows of a table."""
    return not fmt.signed and not fmt.frac_bits and fmt.width <= TABLE_INPUT_BITS


def row_format(rows: int) -> FixedFormat:
    """Return the narrowest format whose codes number so many rows."""
    return FixedFormat(False, max(1, (rows - 1).bit_length()), 0)


def rows_of(table: Codes, x: FixedFormat) -> tuple[Codes, Codes]:
    """Return each column of a table (rows, channels) as a step function of the codes of a format.

    Raises:
        UnsupportedError: they are no whole numbers.
    """
    if not counts_rows(x):
        what, most = f"looks rows up at {x}, which are no whole numbers of at most", TABLE_INPUT_BITS
        raise UnsupportedError(f"{what} {most} bits", remedy="put an Embedding behind an input")
    rows = np.arange(min(len(table), x.max_code + 1))
    return together([runs(rows, column[: len(rows)]) for column in table.T])


def check_outputs(count: int, name: str, said: int | None) -> None:
    """Raise UnsupportedError unless arrays with this many outputs are those that the file says."""
    if said not in (count, None):
        raise UnsupportedError(f"its arrays have {counted(count, 'output')}, which does not fit {name}={said}")


@dataclass(slots=True)
class Builder:
    """The graph so far, while layers are read one after another.

    Attributes:
        graph_type: what it becomes.
        passes_on: the op between a port and an output that is the same.
        network: what is read.
        input_format: format of the input ports that the model does not quantize itself.
        softmax: format of the outputs of a final softmax; None leaves it off.
        evaluate: evaluates element-wise functions as the network's framework does.
        approximate: the same where the last bit does not matter.
        rounds: what is rounded on request.
        folds: whether a recurrent layer is one step of hardware, used again for every row, where it can be.
        ops: ops so far, by name.
        tensors: outputs so far, by the name of the call.
        warnings: what a report must say.
        absorbed: port -> the layer whose cast the port does.
        approximated: layers of which something was rounded on request.
        laid_out: recurrent layers every step of which is hardware of its own.
        step_functions: runs of the functions that were looked up so far, by format, divisor and functions, and whether
            they are precise.
        sampled: codes of ops for the samples to try formats on, of those that it was asked for and of small ones.
    """

    graph_type: ClassVar[type[IntGraph]] = IntGraph
    passes_on: ClassVar[type[Op]] = Requantize
    longest: ClassVar[int] = FLOAT64_BITS
    """Bits without the sign of the longest results that software can check."""

    network: Network
    input_format: FixedFormat | None
    softmax: FixedFormat | None
    evaluate: Evaluate | None
    approximate: Evaluate | None = None
    rounds: Approximation | None = None
    folds: bool = False
    ops: dict[str, Op] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    absorbed: Mapping[str, Layer[Any]] = field(default_factory=dict)
    approximated: list[str] = field(default_factory=list)
    laid_out: list[str] = field(default_factory=list)
    step_functions: dict[str, tuple[Codes, NDArray[np.float32], bool]] = field(default_factory=dict)
    sampled: dict[str, Codes] = field(default_factory=dict)

    def op(self, tensor: Tensor) -> Op:
        """Return the op of a tensor, whatever still waits on it."""
        return self.ops[tensor.op]

    def add(
        self,
        cls: type[Op],
        layer: Layer[Any],
        inputs: Sequence[Tensor],
        shape: Shape,
        cast: Cast | None = None,
        *,
        suffix: str = "",
        **values: Any,
    ) -> Tensor:
        """Append an op; without a cast it has one to the format of `result_format`."""
        values.setdefault("fused", (cls.kind,))
        op = cls(
            name=identifier(layer.name + suffix, self.ops),
            inputs=tuple(tensor.op for tensor in inputs),
            shape=shape,
            cast=cast or Cast(FixedFormat(True, CODE_BITS - 1, 0)),
            **values,
        )
        if cast is None:
            op = replace(op, cast=Cast(self.result_format(op, inputs)))
        self.ops[op.name] = op
        return Tensor(op.name, layers=tuple(name for tensor in inputs for name in tensor.layers))

    def result_format(self, op: Op, inputs: Sequence[Tensor]) -> FixedFormat:
        """Return the format that holds each result of an op exactly."""
        return exact_result(op, *(self.op(tensor).format for tensor in inputs)).format

    def plain(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor whose values are codes.

        Raises:
            UnsupportedError: the values lie on no grid that a format has.
        """
        tensor = self.straight(layer, tensor)
        if not tensor.waits:
            return tensor
        if tensor.lines and not tensor.functions:
            what = f"reads a batch normalization whose results have more than {CODE_BITS - 1} bits"
            raise UnsupportedError(what, remedy="put a quantizer (QActivation) behind it, or give --batchnorm-bits 16")
        if self.rounds is not None and self.rounds.float_layers is not None:
            return self._rounded(layer, tensor, self.rounds.float_layers)
        if tensor.clipped is not None and self.op(tensor).format.width > TABLE_INPUT_BITS:
            made = self.clipped_line(layer, tensor, tensor.clipped)
        else:
            made = self.lookup(layer, tensor) if tensor.functions else self._halved(layer, tensor)
        self.ops[made.op] = replace(self.op(made), layers=made.layers)
        return Tensor(made.op)

    def tell(self, tensor: Tensor, names: tuple[str, ...]) -> None:
        """Write down with its op which layers' output a tensor is, and over what."""
        op = self.op(tensor)
        self.ops[op.name] = replace(op, layers=tuple(dict.fromkeys((*op.layers, *names))), denominator=tensor.divisor)

    def straight(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor whose values have the axes of its codes."""
        if not tensor.turned:
            return tensor
        if tensor.lines:  # of the channels, which are last in the codes
            made = self.plain(layer, replace(tensor, turned=False, layers=()))
            tensor = replace(made, turned=True, layers=tensor.layers)
        moved = self._moved(layer, tensor, -1, 0)
        if moved.waits:
            return moved
        self.ops[moved.op] = replace(self.op(moved), layers=(*self.op(moved).layers, *moved.layers))
        return Tensor(moved.op)

    def channels_last(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor whose codes have the first axis of its values as their last one, and no longer tells so."""
        if tensor.turned:
            return replace(tensor, turned=False, layers=())
        waits = tensor.functions or tensor.lines
        return self._moved(layer, self.plain(layer, tensor) if waits else tensor, 0, -1)

    def _moved(self, layer: Layer[Any], tensor: Tensor, source: int, target: int) -> Tensor:
        """Move an axis of the codes; what waits still waits."""
        shape = self.op(tensor).shape
        if len(shape) < 2:
            return replace(tensor, turned=False)
        index = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), source, target)
        out = self.add(Gather, layer, [tensor], index.shape, suffix="_turned", index=index, fused=("transpose",))
        return replace(tensor, op=out.op, turned=False)

    def _rounded(self, layer: Layer[Any], tensor: Tensor, bits: int) -> Tensor:
        """Return a tensor whose values, that no quantizer follows, are rounded to codes of `bits`."""
        self.approximated += tensor.layers or (layer.path,)
        if not tensor.functions:
            made = self.rounded_to(layer, tensor, bits)
        else:
            narrow = self.op(tensor).format.width <= TABLE_INPUT_BITS
            source = tensor if narrow else self.rounded_to(layer, replace(tensor, functions=()), TABLE_INPUT_BITS)
            made = self.lookup(layer, replace(tensor, op=source.op, divisor=tensor.divisor if narrow else 1), bits)
        self.ops[made.op] = replace(self.op(made), layers=made.layers)
        return Tensor(made.op)

    def bits_of_floats(self, layer: Layer[Any]) -> int | None:
        """Return to how many bits a layer that computes with floats is rounded, and write it down; None if to none."""
        if self.rounds is None or self.rounds.float_layers is None:
            return None
        self.approximated.append(layer.path)
        return self.rounds.float_layers

    def shortened(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor of float layers in as many bits as are asked for; any other as it is."""
        assert self.rounds is not None and self.rounds.float_layers is not None
        if tensor.waits or self.op(tensor).format.width <= self.rounds.float_layers or not self._is_float(tensor.op):
            return tensor
        return self.rounded_to(layer, tensor, self.rounds.float_layers)

    def _is_float(self, name: str) -> bool:
        """Say whether something was rounded on the way to an op since the last quantizer."""
        op = self.ops[name]
        if isinstance(op, Requantize | Lookup):
            return False
        return any(layer in self.approximated for layer in op.layers) or any(map(self._is_float, op.inputs))

    def rounded_to(self, layer: Layer[Any], tensor: Tensor, bits: int) -> Tensor:
        """Append a cast to the format of `bits` that changes the values of the samples least."""
        cast = replace(best_cast(self.on_samples(tensor), bits), divisor=tensor.divisor)
        source = replace(tensor, divisor=1, layers=())
        out = self.add(Requantize, layer, [source], self.op(tensor).shape, cast, suffix="_rounded")
        return replace(out, layers=tensor.layers)

    def on_samples(self, tensor: Tensor) -> Values:
        """Return the values of a tensor, before functions that wait, for the samples to try formats on."""
        assert self.rounds is not None and self.rounds.samples is not None
        if not self.sampled:
            graph = IntGraph(name="samples", ops=tuple(self.ops.values()), outputs=(tensor.op,))
            samples = Samples(values=self.rounds.samples, labels=None, source="")
            self.sampled |= graph.split_port(to_port(samples, graph).codes)
        needed, new = {tensor.op}, list[Op]()
        for op in reversed(self.ops.values()):
            if op.name in needed and op.name not in self.sampled:
                new.append(op)
                needed.update(op.inputs)
        known = [
            Input(name=op.name, inputs=(), shape=op.shape, cast=Cast(op.format))
            for op in self.ops.values()
            if op.name in needed and op.name in self.sampled
        ]
        if new:
            graph = IntGraph(name="samples", ops=(*known, *reversed(new)), outputs=(tensor.op,))
            keep = [
                op.name
                for op in new
                if op.name == tensor.op or len(self.rounds.samples) * math.prod(op.shape) < FEW_CODES
            ]
            codes = graph.join_port({op.name: self.sampled[op.name] for op in known})
            self.sampled |= reference.run(graph, codes, keep=keep).codes
        return to_values(np.asarray(self.sampled[tensor.op], np.int64), self.op(tensor).format) / tensor.divisor

    def inside(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor to whose op an op inside of a layer may be appended.

        Passes merge ops in a row. If the first is the output of a layer, which is compared, a copy stands between.
        """
        x = self.op(tensor)
        if not x.layers:
            return tensor
        index = np.arange(math.prod(x.shape)).reshape(x.shape)
        made = self.add(Gather, layer, [tensor], x.shape, suffix="_copy", index=index, fused=("copy",))
        return replace(tensor, op=made.op)

    def clipped_line(self, layer: Layer[Any], tensor: Tensor, line: ClippedLine) -> Tensor:
        """Append the clipped line that waits on a tensor."""
        tensor = self.inside(layer, tensor)
        shape = self.op(tensor).shape

        def scaled(source: Tensor, scale: float, offset: float, suffix: str) -> Tensor:
            constants = (exact_codes(np.full(shape[-1], number)) for number in (scale, offset))
            named: dict[str, Any] = dict(zip(("scale", "offset"), constants, strict=True))
            return self.add(BatchNorm, layer, [source], shape, suffix=suffix, fused=("line",), **named)

        risen = scaled(tensor, line.slope, line.offset, "_line")
        clipped = self.add(Relu, layer, [risen], shape, suffix="_clip", limit=1 << self.op(risen).format.frac_bits)
        if (line.low, line.high) == (0, 1):
            return clipped
        return scaled(clipped, line.high - line.low, line.low, "_range")

    def _halved(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        x, halvings = self.op(tensor), tensor.divisor.bit_length() - 1
        if tensor.divisor != 1 << halvings:
            raise UnsupportedError(
                f"reads an average over {tensor.divisor}, which no binary fraction holds",
                remedy="put a quantizer (QActivation) behind it, or take it rounded on request: --float-layers 12",
            )
        fmt = FixedFormat(x.format.signed, x.format.int_bits - halvings, x.format.frac_bits + halvings)
        cast = Cast(fmt, divisor=tensor.divisor)
        return self.add(Requantize, layer, [tensor], x.shape, cast, suffix="_halved")

    def embedded(self, layer: Layer[Any], tensor: Tensor, table: Constant) -> Tensor:
        """Append the rows of a table (rows, channels) at codes that are the same in every channel."""
        if table.format.width > WEIGHT_BITS:
            what = f"table needs {table.format.width} bits to be exact, more than {WEIGHT_BITS}"
            raise UnsupportedError(what, remedy="round it on request: --float-layers 12")
        x = self.op(tensor)
        starts, values = rows_of(table.codes, x.format)
        cast = Cast(table.format)
        return self.add(Lookup, layer, [tensor], x.shape, cast, starts=starts, values=values, fused=("embedding",))

    def lookup(
        self, layer: Layer[Any], tensor: Tensor, bits: int | None = None, widest: int = TABLE_VALUE_BITS
    ) -> Tensor:
        """Append the step function that the functions waiting on a tensor are: QKeras' own results for every code.

        With `bits`, these are rounded to that width; what spans more than `widest` is no number of a quantizer.

        Raises:
            UnsupportedError: values on no grid, nothing to evaluate with, or too many codes for what is no step
                function that only rises.
        """
        x = self.op(tensor)
        names = ", ".join(function.name for function in tensor.functions)
        falls = [place for place, each in enumerate(tensor.functions) if each.falters is None or each.turn is not None]
        searched = falls == [0] and len(tensor.functions) > 1 and tensor.functions[0].falters is not None
        if x.format.width > TABLE_INPUT_BITS and falls and not searched:
            remedy = f"functions that fall somewhere have at most {TABLE_INPUT_BITS}: quantize its input first"
            raise UnsupportedError(f"{names} of {x.format.width} bits", remedy=remedy)
        if self.evaluate is None:
            remedy = "pass evaluate=flow.train.functions.evaluate"
            raise UnsupportedError(f"{names} is a table that QKeras fills", remedy=remedy)
        domain = ordinals(tensor.lines, x.format, tensor.relu) if tensor.lines else x.format
        evaluate = self.evaluate if bits is None or self.approximate is None else self.approximate
        key = repr((domain, tensor.divisor, bits is None, [function.source for function in tensor.functions]))
        if tensor.lines or key not in self.step_functions:
            self.step_functions[key] = self._one_function(domain, tensor, names, evaluate)
        starts, found, is_precise = self.step_functions[key]
        table = exact_codes(found if bits is None else on_grid(found, bits))
        if table.format.width > widest:
            remedy = "put a quantizer (QActivation) behind it"
            raise UnsupportedError(f"the values of {names} lie on no grid", remedy=remedy)
        cast, values = Cast(table.format), table.codes
        if isinstance(domain, Ordinals):
            cuts = [(cut * tensor.divisor, beyond) for cut, beyond in map(cut_before, starts[1:].tolist())]
            starts, values = stepped(tensor.lines, cuts, values, x.format)
        steps: dict[str, Any] = {"starts": starts, "values": values, "fused": (names,)}
        if is_precise:
            steps["precise"] = (*tensor.layers, layer.name)
            self.warnings.append(
                f"layer '{layer.name}': {names} is computed in float64, by software inference too; TensorFlow's "
                "float32 depends next to a step on where in a tensor an element stands, or loses bits by large ones"
            )
        return self.add(Lookup, layer, [tensor], x.shape, cast, **steps)

    def _one_function(
        self, fmt: FixedFormat | Ordinals, tensor: Tensor, names: str, evaluate: Evaluate
    ) -> tuple[Codes, NDArray[np.float32], bool]:
        """Return the runs of `_steps`, and whether they are those of precise functions: only where float32 is refused.

        What waits for another quantizer too stays float32.
        """
        shared = any(sum(name in layer.inputs for layer in self.network.layers) > 1 for name in tensor.layers)
        try:
            return *self._steps(fmt, tensor, names, evaluate), False
        except UnsupportedError:
            functions = tuple(map(precisely, tensor.functions))
            if shared or functions == tensor.functions:
                raise
            return *self._steps(fmt, replace(tensor, functions=functions), names, evaluate), True

    def scaled(self, layer: Layer[Any], tensor: Tensor, cast: Cast, fused: tuple[str, ...]) -> Tensor:
        """Append lines that wait and the cast behind them: a batch norm of fewer bits, or thresholds.

        Raises:
            UnsupportedError: neither of them fits.
        """
        x = self.op(tensor)
        if tensor.relu and cast.format.signed and cast.format.width > 1:
            cast = replace(cast, format=cast.format.unsigned())
        cast = replace(cast, divisor=tensor.divisor)
        made = shortened(tensor.lines, x.format, cast) if has_thresholds(cast) else None
        if made is not None:
            scale, offset, own = made
            values: dict[str, Any] = {"scale": scale, "offset": offset, "fused": ("batchnorm", *fused)}
            return self.add(BatchNorm, layer, [tensor], x.shape, own, **values)
        if not has_thresholds(cast) or cast.format.max_code - cast.lowest_code > MOST_STEPS:
            what = f"a batch normalization with results of more than {CODE_BITS - 1} bits is rounded to {cast.format}"
            raise UnsupportedError(what, remedy="use a quantizer of at most 12 bits, or give --batchnorm-bits 16")
        codes = np.arange(cast.lowest_code, cast.format.max_code + 1)
        starts, codes = stepped(tensor.lines, cuts_of(cast), codes, x.format)
        steps: dict[str, Any] = {"starts": starts, "values": codes, "fused": ("batchnorm", *fused)}
        return self.add(Lookup, layer, [tensor], x.shape, Cast(cast.format), **steps)

    def _steps(
        self, fmt: FixedFormat | Ordinals, tensor: Tensor, names: str, evaluate: Evaluate
    ) -> tuple[Codes, NDArray[np.float32]]:
        """Return the runs of the functions that wait on a tensor of a format: of all codes, or found by bisection."""
        sources = [function.source for function in tensor.functions]

        def reals(codes: Codes) -> NDArray[np.float32]:
            if isinstance(fmt, Ordinals):
                return number(codes)
            if tensor.divisor == 1:  # rounded once, also beyond what float64 holds
                return np.ldexp(codes.astype(np.float32), -fmt.frac_bits)
            return np.asarray(np.ldexp(codes.astype(float), -fmt.frac_bits) / tensor.divisor, np.float32)

        def values(codes: Codes) -> NDArray[np.float32]:
            return evaluate(sources, reals(codes))

        def rising(codes: Codes) -> NDArray[np.float32]:
            assert self.approximate is not None
            return self.approximate(sources[:-1], reals(codes))

        if fmt.width <= TABLE_INPUT_BITS:
            codes = np.arange(fmt.min_code, fmt.max_code + 1)
            return runs(codes, values(codes))
        *before, last = tensor.functions
        before_last = sum(function.falters or 0 for function in before)
        if tensor.functions[0].turn is None:
            return find_steps(values, fmt, rising, before_last, names)
        if isinstance(fmt, Ordinals):
            turn = ordinal(tensor.functions[0].turn)
        else:
            turn = round(math.ldexp(tensor.functions[0].turn * tensor.divisor, fmt.frac_bits))
        least, around = rising(np.array([turn])), np.arange(-before_last, before_last + 1)
        near = np.asarray(least + np.spacing(least) * around, np.float32)
        if len(np.unique(evaluate([last.source], near))) > 1:
            what = f"the least value of {names} of {fmt.width} bits is too near a step to tell"
            raise UnsupportedError(what, remedy="let a quantizer of other bits follow")
        quarter = np.float32(0.25)
        return find_steps(values, fmt, rising, before_last, names, turn, lambda codes: np.abs(reals(codes)) * quarter)


Handler = Callable[[Builder, Layer[Any], Sequence[Tensor]], Tensor]
"""Appends what a layer does to the tensors that it reads, and returns its output."""


def window_over(x: Shape, rule: Padding | Margins, size: Shape, strides: Shape) -> Window:
    """Return the window over an image of shape `x` as TensorFlow pads it: more at the end.

    Raises:
        UnsupportedError: it does not fit, or pads too much.
    """
    if len(x) != len(size) + 1:
        raise UnsupportedError(f"reads a tensor of shape {x}", remedy=f"its windows {size} need {len(size) + 1} axes")
    pads = []
    for axis, (length, span, step) in enumerate(zip(x, size, strides, strict=False)):
        total = max((-(-length // step) - 1) * step + span - length, 0)
        edges = {Padding.VALID: (0, 0), Padding.SAME: (total // 2, total - total // 2), Padding.CAUSAL: (span - 1, 0)}
        pads.append(edges[rule] if isinstance(rule, Padding) else rule[axis])
    window = Window(size, strides, tuple(pads))
    padded = window.padded(x)[:-1]
    if math.prod(padded) > SPREAD:
        raise UnsupportedError(f"window {size} pads its input to {padded}", remedy="use a smaller one")
    if min(window.positions(x)) < 1:
        raise UnsupportedError(f"window {size} is larger than its input {x}")
    return window
