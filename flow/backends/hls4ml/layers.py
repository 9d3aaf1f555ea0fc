"""The graph in hls4ml's words: a list of layer dictionaries and a configuration with every type named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from flow.backends.base import find_backend
from flow.backends.hls4ml.dialects import DIALECTS, widened
from flow.backends.hls4ml.kernels import kernel
from flow.ir import ops
from flow.ir.fixed import Cast, to_values
from flow.ir.graph import IntGraph, Op
from flow.ir.windows import Shape, Window
from flow.target import Target

STAMP = "po2flow"
"""Stands where hls4ml would write a random stamp into every project."""


def precision(cast: Cast, backend: str) -> str:
    """Return hls4ml's text for the type of what a cast makes: the vendor's without its `ap_` prefixes."""
    return replace(cast, format=widened(backend, cast.format)).cpp.replace("AP_", "").replace("ap_", "")


def layer_of(op: Op, graph: IntGraph, target: Target, inputs: Sequence[str]) -> dict[str, Any]:
    """Return an op as a layer for `ModelGraph`, reading the layers `inputs`.

    Raises:
        UnsupportedError: what `kernels.kernel` refuses.
    """
    common = {"name": op.name, "inputs": list(inputs), "trace": is_traced(op)}
    if not needs_kernel(op, graph, target):
        return {**common, **LAYERS[type(op)].attributes(op, graph, target)}
    own = kernel(op, graph, target)
    return {
        **common,
        "class_name": "FlowKernel",
        "out_shape": list(op.shape),
        "function": own.function,
        "config_text": own.config,
    }


def needs_kernel(op: Op, graph: IntGraph, target: Target) -> bool:
    """Say whether a kernel of ours computes an op, since hls4ml 1.3.0 lacks it, or this form of it.

    A layer of hls4ml that works on each code has the shape of what it reads: behind a reshape of a stream, still that
    before it.
    """
    dialect = DIALECTS[target.backend]
    if not dialect.extended or isinstance(op, ops.Input):
        return False
    other_form = isinstance(op, ops.MaxPool) and not pools(op, target)
    other_form |= isinstance(op, ops.Relu) and op.limit is not None
    if target.io_type == "io_stream" and isinstance(op, ops.BatchNorm | ops.Relu | ops.Requantize):
        other_form |= isinstance(graph.sources(op)[0], ops.Reshape)
    return type(op) not in dialect.ops or other_form or op.cast.divisor != 1


def pools(op: ops.MaxPool, target: Target) -> bool:
    """Say whether hls4ml's max pooling computes an op.

    It asserts in streams that windows neither overlap nor are padded (`nnet_pooling_stream.h`), and pads with the top
    bit (`pad_val` in `nnet_pooling.h`), which is the smallest code of signed types only.
    """
    apart = target.io_type != "io_stream" or op.window.size == op.window.strides
    return apart and len(op.window.size) == 2 and not any(op.window.padding)


def configuration(graph: IntGraph, target: Target, output_dir: str) -> dict[str, Any]:
    """Return hls4ml's configuration: target, and per layer every precision, strategy and reuse factor."""
    dialect, convolves = DIALECTS[target.backend], any(is_convolution(op) for op in graph.ops)
    return {
        "OutputDir": output_dir,
        "ProjectName": graph.name,
        "Backend": target.backend,
        "Part": target.part,
        **_clock(target),
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
            "LayerName": {op.name: _layer_config(op, graph, target) for op in graph.ops},
        },
        "WriterConfig": {"Namespace": None, "WriteWeightsTxt": True, "WriteTar": False, "TBOutputStream": "both"},
        **dict(dialect.settings),
    }


def _clock(target: Target) -> dict[str, Any]:
    """Return the clock; hls4ml writes what it is given, and leaves an uncertainty out of scripts that have none."""
    whole, share = find_backend(target.backend).whole_nanoseconds, target.clock_uncertainty
    period = int(target.clock_period_ns) if whole else target.clock_period_ns
    return {"ClockPeriod": period} | ({} if share is None else {"ClockUncertainty": f"{100 * share:g}%"})


def _layer_config(op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    # hls4ml takes the type of a port without modes
    result = Cast(op.format) if isinstance(op, ops.Input) else op.cast
    others = {} if needs_kernel(op, graph, target) else LAYERS[type(op)].types(op)
    types = {"result": result, **others}
    return {
        "Precision": {name: precision(cast, target.backend) for name, cast in types.items()},
        "ReuseFactor": target.reuse(op.name),
        "Strategy": target.strategy.lower(),
    }


def is_convolution(op: Op) -> bool:
    """Say whether hls4ml computes an op as a convolution."""
    return isinstance(op, ops.Conv) or (isinstance(op, ops.Dense) and len(op.shape) > 1)


def is_traced(op: Op) -> bool:
    """Say whether csim writes the outputs of an op: of all but those that only pass codes on."""
    return not isinstance(op, ops.Input | ops.Reshape)


def traced(graph: IntGraph) -> tuple[Op, ...]:
    """Return the ops whose outputs csim writes."""
    return tuple(op for op in graph.ops if is_traced(op))


def _dense(op: ops.Dense, graph: IntGraph, target: Target) -> dict[str, Any]:
    """Return a matrix product; over several axes it is a convolution whose window is one position."""
    n_in, n_out = op.weight.codes.shape
    if len(op.shape) == 1:
        return {"class_name": "Dense", "n_in": n_in, "n_out": n_out, **_weights(op, op.weight.codes.shape)}
    axes = len(op.shape) - 1
    return _convolution(op, (*op.shape[:-1], n_in), Window((1,) * axes, (1,) * axes, ((0, 0),) * axes))


AXES = {1: ("width",), 2: ("height", "width")}


def _conv(op: ops.Conv, graph: IntGraph, target: Target) -> dict[str, Any]:
    shape, window = graph.sources(op)[0].shape, op.window
    if target.io_type == "io_stream" and not DIALECTS[target.backend].pads_streams:  # the zeros are a layer
        shape, window = window.padded(shape), window.unpadded()
    return _convolution(op, shape, window)


def _convolution(op: ops.MatMul, shape: Shape, window: Window) -> dict[str, Any]:
    """Return the layer of a convolution that reads a tensor of this shape."""
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


def _max_pool(op: ops.MaxPool, graph: IntGraph, target: Target) -> dict[str, Any]:
    shape = graph.sources(op)[0].shape
    return {
        "class_name": "MaxPooling2D",
        "pool_height": op.window.size[0],
        "pool_width": op.window.size[1],
        **_window(shape, op.shape, op.window),
        "n_filt": op.shape[-1],
    }


def _weights(op: ops.MatMul, shape: Shape) -> dict[str, Any]:
    # Groups become zeros: hls4ml 1.3.0 has none, and its depthwise kernels sum differently per reuse factor.
    return {
        "weight_data": to_values(op.matrix().reshape(shape), op.weight.format),
        "bias_data": op.bias.values,
        "use_bias": True,
    }


def _batchnorm(op: ops.BatchNorm, graph: IntGraph, target: Target) -> dict[str, Any]:
    return {
        "class_name": "BatchNormalization",
        "n_in": math.prod(op.shape),
        "n_filt": op.shape[-1] if len(op.shape) > 1 else -1,
        "scale_data": op.scale.values,
        "bias_data": op.offset.values,
    }


def _activation(function: str, op: Op, graph: IntGraph, target: Target) -> dict[str, Any]:
    return {"class_name": "Activation", "activation": function, "n_in": math.prod(op.shape)}


def _matmul_types(op: ops.MatMul) -> dict[str, Cast]:
    assert op.accumulator is not None, f"{op.name}: infer_accumulators has not run"
    return {"weight": Cast(op.weight.format), "bias": Cast(op.bias.format), "accum": Cast(op.accumulator)}


def _batchnorm_types(op: ops.BatchNorm) -> dict[str, Cast]:
    return {"scale": Cast(op.scale.format), "bias": Cast(op.offset.format)}


class Layer(NamedTuple):
    """What hls4ml is told of an op.

    Attributes:
        attributes: the layer, from the op, the graph and the target.
        types: the types that it has beside that of its result.
    """

    attributes: Callable[..., dict[str, Any]]
    types: Callable[..., dict[str, Cast]] = lambda op: {}


LAYERS: Mapping[type[Op], Layer] = {
    ops.Input: Layer(lambda op, graph, target: {"class_name": "InputLayer", "input_shape": list(op.shape)}),
    ops.Dense: Layer(_dense, _matmul_types),
    ops.Conv: Layer(_conv, _matmul_types),
    ops.BatchNorm: Layer(_batchnorm, _batchnorm_types),
    ops.Relu: Layer(partial(_activation, "relu")),
    ops.Requantize: Layer(partial(_activation, "linear")),
    ops.MaxPool: Layer(_max_pool, lambda op: {"accum": Cast(op.format)}),
    ops.Reshape: Layer(lambda op, graph, target: {"class_name": "Reshape", "target_shape": list(op.shape)}),
}
WITHOUT_LAYER = (ops.LeakyRelu, ops.Merge, ops.SumPool, ops.Gather, ops.Lookup, ops.TruthTable, ops.Softmax, ops.Scan)
"""hls4ml computes them in no form exactly."""
