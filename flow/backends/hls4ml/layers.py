"""The graph in hls4ml's words: a list of layer dictionaries and a configuration with every type named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.kernels import kernel
from flow.errors import UnsupportedError
from flow.ir.fixed import FixedFormat, Overflow, Rounding, to_values
from flow.ir.graph import BatchNorm, Conv, Dense, Input, IntGraph, MatMul, MaxPool, Op, Relu, Requantize, Reshape
from flow.ir.windows import Shape, Window
from flow.target import Target

STAMP = "po2flow"
"""Stands where hls4ml would write a random stamp into every project."""
CSIM_BITS = 53
"""C simulation and its traces carry values as doubles: an output wider than this could not be compared exactly."""


def precision(fmt: FixedFormat, rounding: Rounding = Rounding.TRN, overflow: Overflow = Overflow.WRAP) -> str:
    """Return hls4ml's text for a type: the vendor's without its `ap_` prefixes."""
    return fmt.cpp(rounding, overflow).replace("AP_", "").replace("ap_", "")


def form_refusals(op: Op, target: Target) -> Iterator[UnsupportedError]:
    """Yield why neither hls4ml nor a kernel of ours computes an op exactly, and the way out.

    A one-bit signed `ap_fixed` has no code for 0 - max_code, so its symmetric saturation gives -1 (`overflow_adjust` in
    `ap_fixed_base.h`). In a stream, a window of one row is computed as one over a sequence, which has no row to leave
    out (`conv_2d_buffer_latency_cl` in `nnet_conv2d_stream.h`).
    """
    what, remedy = _refused_form(op, target)
    if what:
        yield UnsupportedError(f"op '{op.name}' {what}", named=op.name, remedy=remedy)


def _refused_form(op: Op, target: Target) -> tuple[str, str]:
    if isinstance(op, Conv) and len(op.window.size) not in AXES:
        return f"is a convolution over {len(op.window.size)} axes", "hls4ml has 1 and 2: use Conv1D or Conv2D"
    one_row = (
        isinstance(op, Conv)
        and len(op.window.size) == 2
        and op.window.size[0] == 1 < op.window.size[1]
        and op.window.strides[0] > 1
    )
    if one_row and target.io_type == "io_stream":
        return (
            "has a window of one row and leaves out rows, which hls4ml's streams do not: "
            "use strides of 1 along that axis, a window of more rows, or io_parallel"
        ), ""
    if isinstance(op, Dense) and len(op.shape) > 3:
        return f"is a dense layer over {len(op.shape)} axes", "hls4ml has them over 3 at most: reshape its input"
    casts = not isinstance(op, Input) and op.cast.overflow is Overflow.SAT_SYM
    if casts and op.format.signed and op.format.width == 1:
        return "saturates symmetrically to one signed bit, which ap_fixed does not: use another format", ""
    if op.format.width > CSIM_BITS:
        return f"has outputs of {op.format.width} bits", f"C simulation carries {CSIM_BITS}: quantize its output"
    return "", ""


def layer_of(op: Op, graph: IntGraph, target: Target, inputs: Sequence[str]) -> dict[str, Any]:
    """Return an op as a layer for `ModelGraph`, reading the layers `inputs`.

    Raises:
        UnsupportedError: what `kernels.kernel` refuses.
    """
    common = {"name": op.name, "inputs": list(inputs), "trace": is_traced(op)}
    if not needs_kernel(op, target):
        return {**common, **LAYERS[type(op)](op, graph, target)}
    own = kernel(op, graph, target.io_type == "io_stream")
    return {
        **common,
        "class_name": "FlowKernel",
        "out_shape": list(op.shape),
        "function": own.function,
        "config_text": own.config,
    }


def needs_kernel(op: Op, target: Target) -> bool:
    """Say whether a kernel of ours computes an op, since hls4ml 1.3.0 lacks it, or this form of it.

    Its max pooling asserts in streams that windows neither overlap nor are padded (`nnet_pooling_stream.h`), and pads
    with the top bit (`pad_val` in `nnet_pooling.h`), which is the smallest code of signed types only.
    """
    dialect = DIALECTS[target.backend]
    if not dialect.extended or isinstance(op, Input):
        return False
    if isinstance(op, MaxPool):
        overlaps = target.io_type == "io_stream" and op.window.size != op.window.strides
        return any(op.window.padding) or overlaps or len(op.window.size) != 2
    return type(op) not in dialect.ops


def configuration(graph: IntGraph, target: Target, output_dir: str) -> dict[str, Any]:
    """Return hls4ml's configuration: target, and per layer every precision, strategy and reuse factor."""
    dialect, convolves = DIALECTS[target.backend], any(_is_convolution(op) for op in graph.ops)
    return {
        "OutputDir": output_dir,
        "ProjectName": graph.name,
        "Backend": target.backend,
        "Part": target.part,
        "ClockPeriod": target.clock_period_ns,
        "ClockUncertainty": None,
        "IOType": target.io_type,
        "TraceOutput": dialect.traces,
        "Stamp": STAMP,
        "HLSConfig": {
            "Model": {
                "Precision": {"default": "fixed<16,6>"},
                "ReuseFactor": target.reuse_factor,
                "Strategy": target.strategy.lower(),
                "PipelineStyle": "dataflow" if dialect.convolves_in_dataflow and convolves else "auto",
            },
            "LayerName": {op.name: _layer_config(op, target) for op in graph.ops},
        },
        "WriterConfig": {"Namespace": None, "WriteWeightsTxt": True, "WriteTar": False, "TBOutputStream": "both"},
        **dict(dialect.settings),
    }


def _layer_config(op: Op, target: Target) -> dict[str, Any]:
    types = {"result": precision(op.format, op.cast.rounding, op.cast.overflow)}
    if isinstance(op, Input):
        types = {"result": precision(op.format)}
    if isinstance(op, MatMul):
        assert op.accumulator is not None, f"{op.name}: infer_accumulators has not run"
        types |= {
            "weight": precision(op.weight.format),
            "bias": precision(op.bias.format),
            "accum": precision(op.accumulator),
        }
    if isinstance(op, BatchNorm):
        types |= {"scale": precision(op.scale.format), "bias": precision(op.offset.format)}
    if isinstance(op, MaxPool):
        types |= {"accum": precision(op.format)}
    return {
        "Precision": types,
        "ReuseFactor": target.reuse(op.name),
        "Strategy": target.strategy.lower(),
    }


def _is_convolution(op: Op) -> bool:
    """Say whether hls4ml computes an op as a convolution."""
    return isinstance(op, Conv) or (isinstance(op, Dense) and len(op.shape) > 1)


def is_traced(op: Op) -> bool:
    """Say whether csim writes the outputs of an op: of all but those that only pass codes on."""
    return not isinstance(op, Input | Reshape)


def traced(graph: IntGraph) -> tuple[Op, ...]:
    """Return the ops whose outputs csim writes."""
    return tuple(op for op in graph.ops if is_traced(op))


def reuse_refusals(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield which reuse factors hls4ml would change, and the way out.

    Source: `FPGABackend._validate_reuse_factor` of hls4ml 1.3.0.
    """
    sizes = {op.name: op.matrix().shape for op in graph.ops if isinstance(op, MatMul)}
    for name, _ in target.reuse_factors:
        if name not in sizes:
            yield UnsupportedError(
                f"no op '{name}' to give a reuse factor", named=name, remedy=f"use {', '.join(sizes)}"
            )
    if target.strategy != "Resource":
        return
    for name, (n_in, n_out) in sizes.items():
        if not _legal(n_in, n_out, target.reuse(name)):
            legal = ", ".join(map(str, legal_reuse_factors(n_in, n_out)))
            yield UnsupportedError(
                f"op '{name}' ({n_in} x {n_out}) cannot have reuse_factor {target.reuse(name)} with strategy Resource",
                named=name,
                remedy=f"give it one of its own, --reuse-factor {name}=N, with N one of {legal}",
            )


def legal_reuse_factors(n_in: int, n_out: int) -> Sequence[int]:
    """Return the reuse factors, ascending, that strategy Resource takes as they are for an op of this size."""
    products = n_in * n_out
    low = [factor for factor in range(1, math.isqrt(products) + 1) if products % factor == 0]
    return [factor for factor in sorted({*low, *(products // each for each in low)}) if _legal(n_in, n_out, factor)]


def _legal(n_in: int, n_out: int, factor: int) -> bool:
    products = n_in * n_out
    whole_columns = math.ceil(products / min(n_in, factor)) % n_out == 0 or factor >= n_in
    return whole_columns and (factor % n_in == 0 or factor < n_in) and products % factor == 0


def _input(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    return {"class_name": "InputLayer", "input_shape": list(op.shape)}


def _dense(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    """Return a matrix product; over several axes it is a convolution whose window is one position."""
    assert isinstance(op, Dense)
    n_in, n_out = op.weight.codes.shape
    if len(op.shape) == 1:
        return {"class_name": "Dense", "n_in": n_in, "n_out": n_out, **_weights(op, op.weight.codes.shape)}
    axes = AXES[len(op.shape) - 1]
    ones = (1,) * len(axes)
    return {
        "class_name": f"Conv{len(axes)}D",
        **_window(op.shape, op.shape, Window(ones, ones, ((0, 0),) * len(axes))),
        "n_chan": n_in,
        "n_filt": n_out,
        **_weights(op, (*ones, n_in, n_out)),
    }


AXES = {1: ("width",), 2: ("height", "width")}


def _conv(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    assert isinstance(op, Conv)
    shape, window = graph.sources(op)[0].shape, op.window
    if target.io_type == "io_stream" and DIALECTS[target.backend].extended:  # the zeros are a layer of their own there
        shape, window = window.padded(shape), window.unpadded()
    return {
        "class_name": f"Conv{len(window.size)}D",
        **_window(shape, op.shape, window),
        "n_chan": shape[-1],
        "n_filt": op.shape[-1],
        **_weights(op, (*window.size, shape[-1], op.shape[-1])),
    }


def _window(shape: Shape, out: Shape, window: Window) -> dict[str, Any]:
    """Return the attributes of a windowed layer, axis by axis."""
    values: dict[str, Any] = {"data_format": "channels_last", "padding": "same" if any(window.padding) else "valid"}
    for position, axis in enumerate(AXES[len(window.size)]):
        values |= {
            f"in_{axis}": shape[position],
            f"out_{axis}": out[position],
            f"filt_{axis}": window.size[position],
            f"stride_{axis}": window.strides[position],
            **dict(zip(PADS[axis], window.pads[position], strict=True)),
        }
    return values


PADS = {"height": ("pad_top", "pad_bottom"), "width": ("pad_left", "pad_right")}


def _max_pool(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    assert isinstance(op, MaxPool)
    shape = graph.sources(op)[0].shape
    return {
        "class_name": "MaxPooling2D",
        "pool_height": op.window.size[0],
        "pool_width": op.window.size[1],
        **_window(shape, op.shape, op.window),
        "n_filt": op.shape[-1],
    }


def _weights(op: MatMul, shape: Shape) -> dict[str, Any]:
    # Groups become zeros: hls4ml 1.3.0 has none, and its depthwise kernels sum differently per reuse factor.
    return {
        "weight_data": to_values(op.matrix().reshape(shape), op.weight.format),
        "bias_data": op.bias.values,
        "use_bias": True,
    }


def _reshape(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    return {"class_name": "Reshape", "target_shape": list(op.shape)}


def _batchnorm(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    assert isinstance(op, BatchNorm)
    return {
        "class_name": "BatchNormalization",
        "n_in": math.prod(op.shape),
        "n_filt": op.shape[-1] if len(op.shape) > 1 else -1,
        "scale_data": op.scale.values,
        "bias_data": op.offset.values,
    }


def _relu(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    return {"class_name": "Activation", "activation": "relu", "n_in": math.prod(op.shape)}


def _requantize(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    return {"class_name": "Activation", "activation": "linear", "n_in": math.prod(op.shape)}


LAYERS: Mapping[type[Op], Callable[[Op, IntGraph, Target], dict[str, Any]]] = {
    Input: _input,
    Dense: _dense,
    Conv: _conv,
    MaxPool: _max_pool,
    BatchNorm: _batchnorm,
    Relu: _relu,
    Requantize: _requantize,
    Reshape: _reshape,
}
