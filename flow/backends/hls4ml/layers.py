"""The graph in hls4ml's words: a list of layer dictionaries and a configuration with every type named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from flow.errors import UnsupportedError
from flow.fixed import FixedFormat, Overflow, Rounding, to_values
from flow.graph import (
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    Input,
    IntGraph,
    MatMul,
    MaxPool2D,
    Op,
    Relu,
    Requantize,
)
from flow.target import Target

STAMP = "po2flow"
"""Stands where hls4ml would write a random stamp into every project."""
CSIM_BITS = 53
"""C simulation and its traces carry values as doubles: an output wider than this could not be compared exactly."""


def precision(fmt: FixedFormat, rounding: Rounding = Rounding.TRN, overflow: Overflow = Overflow.WRAP) -> str:
    """Return hls4ml's text for a type: the vendor's without its `ap_` prefixes."""
    return fmt.cpp(rounding, overflow).replace("AP_", "").replace("ap_", "")


def layer_list(graph: IntGraph) -> list[dict[str, Any]]:
    """Return the layers for `ModelGraph.from_layer_list`.

    Raises:
        UnsupportedError: an output is wider than csim can carry, or the model ends with a flatten.
    """
    for op in graph.ops:
        if op.format.width > CSIM_BITS:
            raise UnsupportedError(
                f"{graph.name}: op '{op.name}' has outputs of {op.format.width} bits; C simulation carries "
                f"{CSIM_BITS}: quantize its output"
            )
    if isinstance(graph.output, Flatten):
        raise UnsupportedError(
            f"{graph.name}: op '{graph.output.name}' ends the model; hls4ml has no final flatten: drop it"
        )
    watched = traced(graph)
    return [
        {"name": op.name, "inputs": list(op.inputs), "trace": op in watched, **LAYERS[type(op)](op, graph)}
        for op in graph.ops
    ]


def configuration(graph: IntGraph, target: Target, output_dir: str) -> dict[str, Any]:
    """Return hls4ml's configuration: target, and per layer every precision, strategy and reuse factor."""
    return {
        "OutputDir": output_dir,
        "ProjectName": graph.name,
        "Backend": target.backend,
        "Part": target.part,
        "ClockPeriod": target.clock_period_ns,
        "ClockUncertainty": None,
        "IOType": target.io_type,
        "TraceOutput": True,
        "Stamp": STAMP,
        "HLSConfig": {
            "Model": {
                "Precision": {"default": "fixed<16,6>"},
                "ReuseFactor": target.reuse_factor,
                "Strategy": target.strategy,
            },
            "LayerName": {op.name: _layer_config(op, target) for op in graph.ops},
        },
        "WriterConfig": {"Namespace": None, "WriteWeightsTxt": True, "WriteTar": False, "TBOutputStream": "both"},
    }


def _layer_config(op: Op, target: Target) -> dict[str, Any]:
    types = {"result": precision(op.format, op.rounding, op.overflow)}
    if isinstance(op, Input):
        types = {"result": precision(op.format)}
    if isinstance(op, MatMul):
        assert op.accumulator is not None, f"{op.name}: infer_accumulators has not run"
        types |= {
            "weight": precision(op.weight_format),
            "bias": precision(op.bias_format),
            "accum": precision(op.accumulator),
        }
    if isinstance(op, BatchNorm):
        types |= {"scale": precision(op.scale_format), "bias": precision(op.offset_format)}
    if isinstance(op, MaxPool2D):
        types |= {"accum": precision(op.format)}
    return {
        "Precision": types,
        "ReuseFactor": target.reuse(op.name),
        "Strategy": target.strategy,
    }


def traced(graph: IntGraph) -> tuple[Op, ...]:
    """Return the ops whose outputs csim writes: all but those that only pass codes on."""
    return tuple(op for op in graph.ops if not isinstance(op, Input | Flatten))


def check_reuse_factors(graph: IntGraph, target: Target) -> None:
    """Raise UnsupportedError if hls4ml would change a reuse factor (it does so with a printed line).

    Source: `FPGABackend._validate_reuse_factor` of hls4ml 1.3.0.
    """
    sizes = {op.name: (op.weight.size // op.shape[-1], op.shape[-1]) for op in graph.ops if isinstance(op, MatMul)}
    for name, _ in target.reuse_factors:
        if name not in sizes:
            raise UnsupportedError(f"{graph.name}: no op '{name}' to give a reuse factor; use {', '.join(sizes)}")
    if target.strategy != "Resource":
        return
    for name, (n_in, n_out) in sizes.items():
        if not _legal(n_in, n_out, target.reuse(name)):
            legal = [str(factor) for factor in range(1, n_in * n_out + 1) if _legal(n_in, n_out, factor)]
            raise UnsupportedError(
                f"{graph.name}: op '{name}' ({n_in} x {n_out}) cannot have reuse_factor {target.reuse(name)} with "
                f"strategy Resource; give it one of its own, --reuse-factor {name}=N, with N one of {', '.join(legal)}"
            )


def check_pools(graph: IntGraph, target: Target) -> None:
    """Raise UnsupportedError for a max pooling that hls4ml 1.3.0 cannot do.

    Source: `nnet_pooling_stream.h` asserts that there is no padding and no overlap; `pad_val` in `nnet_pooling.h` sets
    the top bit, which is the smallest code of signed types only.
    """
    for op in graph.ops:
        if not isinstance(op, MaxPool2D):
            continue
        stream = target.io_type == "io_stream"
        if any(op.padding) and (stream or not op.format.signed):
            where = "in io_stream" if stream else "on unsigned codes"
            raise UnsupportedError(
                f"{graph.name}: op '{op.name}': max pooling with padding 'same' is not supported {where}; "
                "use padding 'valid', or an input whose size is a multiple of the strides"
            )
        if stream and op.pool != op.strides:
            raise UnsupportedError(
                f"{graph.name}: op '{op.name}': max pooling {op.pool} with strides {op.strides} is not supported in "
                "io_stream; use strides equal to the pool size, or io_parallel"
            )


def _legal(n_in: int, n_out: int, factor: int) -> bool:
    products = n_in * n_out
    whole_columns = math.ceil(products / min(n_in, factor)) % n_out == 0 or factor >= n_in
    return whole_columns and (factor % n_in == 0 or factor < n_in) and products % factor == 0


def _input(op: Op, graph: IntGraph) -> dict[str, Any]:
    return {"class_name": "InputLayer", "input_shape": list(op.shape)}


def _dense(op: Op, graph: IntGraph) -> dict[str, Any]:
    assert isinstance(op, Dense)
    n_in, n_out = op.weight.shape
    return {"class_name": "Dense", "n_in": n_in, "n_out": n_out, **_weights(op)}


def _conv2d(op: Op, graph: IntGraph) -> dict[str, Any]:
    assert isinstance(op, Conv2D)
    height, width, channels, _ = op.weight.shape
    return {
        "class_name": "Conv2D",
        "filt_height": height,
        "filt_width": width,
        "n_chan": channels,
        **_windows(op, graph, op.strides, op.padding),
        **_weights(op),
    }


def _max_pool(op: Op, graph: IntGraph) -> dict[str, Any]:
    assert isinstance(op, MaxPool2D)
    return {
        "class_name": "MaxPooling2D",
        "pool_height": op.pool[0],
        "pool_width": op.pool[1],
        **_windows(op, graph, op.strides, op.padding),
    }


def _windows(op: Op, graph: IntGraph, strides: tuple[int, int], padding: tuple[int, int, int, int]) -> dict[str, Any]:
    in_height, in_width, _ = graph[op.inputs[0]].shape
    out_height, out_width, filters = op.shape
    top, bottom, left, right = padding
    return {
        "data_format": "channels_last",
        "in_height": in_height,
        "in_width": in_width,
        "out_height": out_height,
        "out_width": out_width,
        "n_filt": filters,
        "stride_height": strides[0],
        "stride_width": strides[1],
        "padding": "same" if any(padding) else "valid",
        "pad_top": top,
        "pad_bottom": bottom,
        "pad_left": left,
        "pad_right": right,
    }


def _weights(op: MatMul) -> dict[str, Any]:
    return {
        "weight_data": to_values(op.weight, op.weight_format),
        "bias_data": to_values(op.bias, op.bias_format),
        "use_bias": True,
    }


def _batchnorm(op: Op, graph: IntGraph) -> dict[str, Any]:
    assert isinstance(op, BatchNorm)
    return {
        "class_name": "BatchNormalization",
        "n_in": math.prod(op.shape),
        "n_filt": op.shape[-1] if len(op.shape) > 1 else -1,
        "scale_data": to_values(op.scale, op.scale_format),
        "bias_data": to_values(op.offset, op.offset_format),
    }


def _activation(op: Op, graph: IntGraph) -> dict[str, Any]:
    kind = "relu" if isinstance(op, Relu) else "linear"
    return {"class_name": "Activation", "activation": kind, "n_in": math.prod(op.shape)}


def _flatten(op: Op, graph: IntGraph) -> dict[str, Any]:
    return {"class_name": "Reshape", "target_shape": list(op.shape)}


LAYERS: Mapping[type[Op], Callable[[Op, IntGraph], dict[str, Any]]] = {
    Input: _input,
    Dense: _dense,
    Conv2D: _conv2d,
    BatchNorm: _batchnorm,
    Relu: _activation,
    Requantize: _activation,
    MaxPool2D: _max_pool,
    Flatten: _flatten,
}
