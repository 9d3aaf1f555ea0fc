"""What our projects have beyond hls4ml's: kernels as layers (its Extension API), and weights stored as exponents.

As layers, kernels are declared, connected and traced like hls4ml's own. With strategy Resource, power-of-two weights
are stored as sign, exponent and zero flag, to be multiplied by shifting. Their codes are those of `nnet_po2.h`, which
goes into the project; hls4ml's own exponent weights have no zero and lose bits (see docs/numerics.md).
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import numpy as np
from hls4ml.backends import get_backend
from hls4ml.backends.oneapi.oneapi_template import StreamFunctionCallTemplate, TaskSequenceTemplate
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.model.layers import Layer, register_layer
from hls4ml.model.types import NamedType

from flow.backends.hls4ml.kernels import CONFIG, OUTPUT_FIRST
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, MatMul
from flow.ir.po2 import Po2Weights, is_po2, split


class FlowKernel(Layer):  # type: ignore[misc]
    """One call of a kernel of `nnet_flow.h`; attributes: `out_shape`, `function`, `config_text`."""

    def initialize(self) -> None:
        self.add_output_variable(list(self.get_attr("out_shape")))


class FlowCopy(Layer):  # type: ignore[misc]
    """The same codes again, as words of another size or at a port of their own; attribute `out_shape`."""

    def initialize(self) -> None:
        self.add_output_variable(list(self.get_attr("out_shape")), precision=self.get_input_variable().type.precision)


class FlowClone(Layer):  # type: ignore[misc]
    """One stream as several, by hls4ml's `clone_stream`."""

    def initialize(self) -> None:
        source = self.get_input_variable()
        for number, name in enumerate(self.outputs, start=1):
            variable = f"layer{{index}}_cpy{number}"
            self.add_output_variable(source.shape, name, variable, precision=source.type.precision)


class _KernelConfig(LayerConfigTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(FlowKernel)

    def format(self, node: Any) -> str:
        return str(node.get_attr("config_text")).replace(CONFIG, f"config{node.index}")


class _KernelCall(FunctionCallTemplate):  # type: ignore[misc]
    def __init__(self, header: str) -> None:
        super().__init__(FlowKernel, include_header=[header])

    def format(self, node: Any) -> str:
        inputs = [node.get_input_variable(name) for name in node.inputs]
        out, function, config = node.get_output_variable(), node.get_attr("function"), f"config{node.index}"
        if function in OUTPUT_FIRST:
            arguments = ", ".join(variable.name for variable in (out, *inputs))
            return f"nnet::{function}<{out.type.name}, {config}>({arguments});"
        return f"nnet::{function}<{inputs[0].type.name}, {out.type.name}, {config}>({inputs[0].name}, {out.name});"


def _copied(node: Any) -> str:
    """Return how many codes a copy moves, and what divides the words on both sides."""
    source, out = node.get_input_variable(), node.get_output_variable()
    return f"{math.prod(out.shape)}, {math.gcd(source.shape[-1], out.shape[-1])}"


class _CopyCall(FunctionCallTemplate):  # type: ignore[misc]
    def __init__(self, header: str) -> None:
        super().__init__(FlowCopy, include_header=[header])

    def format(self, node: Any) -> str:
        source, out = node.get_input_variable(), node.get_output_variable()
        types = f"{source.type.name}, {out.type.name}, {_copied(node)}"
        return f"nnet::copy_codes<{types}>({source.name}, {out.name});"


class _CloneCall(FunctionCallTemplate):  # type: ignore[misc]
    def __init__(self, header: str) -> None:
        super().__init__(FlowClone, include_header=["nnet_utils/nnet_stream.h"])

    def format(self, node: Any) -> str:
        source, out = node.get_input_variable(), node.get_output_variable()
        arguments = ", ".join([source.name, *(variable.name for variable in node.get_variables())])
        return f"nnet::clone_stream<{source.type.name}, {out.type.name}, {math.prod(source.shape)}>({arguments});"


class _PipedCall(StreamFunctionCallTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__((FlowKernel, FlowCopy, FlowClone))

    def format(self, node: Any) -> str:
        return f"{node.name}.async();"


def _task(node: Any, function: str, *arguments: str) -> str:
    return f"task_sequence<nnet::{function}_stream<{', '.join(arguments)}>> {node.name};"


class _KernelTask(TaskSequenceTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(FlowKernel)

    def format(self, node: Any) -> str:
        reads = [node.get_input_variable(name).pipe_name for name in node.inputs]
        written, function = node.get_output_variable().pipe_name, node.get_attr("function")
        config = f"config{node.index}"
        ends = [written, config, *reads] if function in OUTPUT_FIRST else [*reads, written, config]
        return _task(node, function, *ends)


class _CopyTask(TaskSequenceTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(FlowCopy)

    def format(self, node: Any) -> str:
        ends = node.get_input_variable().pipe_name, node.get_output_variable().pipe_name
        return _task(node, "copy_codes", *ends, _copied(node))


class _CloneTask(TaskSequenceTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(FlowClone)

    def format(self, node: Any) -> str:
        pipes = [variable.pipe_name for variable in (node.get_input_variable(), *node.get_variables())]
        size = math.prod(node.get_input_variable().shape)
        return f"task_sequence<nnet::clone_stream<{', '.join(pipes)}, {size}>> {node.name};"


BACKENDS = {"Vivado": "nnet_flow.h", "Quartus": "nnet_flow.h", "Catapult": "nnet_flow.h", "oneAPI": "nnet_flow_pipes.h"}
"""hls4ml's back ends that get our templates, and the header that has the kernels as they are called there."""


@cache
def register() -> None:
    """Make the layers known to hls4ml, once; its Vitis back end takes its templates from the Vivado back end."""
    for layer in (FlowKernel, FlowCopy, FlowClone):
        register_layer(layer.__name__, layer)
    for name, header in BACKENDS.items():
        backend = get_backend(name)
        backend.register_template(_KernelConfig)
        for call in (_KernelCall, _CopyCall, _CloneCall):
            backend.register_template(partial(call, f"nnet_utils/{header}"))
    for task in (_PipedCall, _KernelTask, _CopyTask, _CloneTask):
        get_backend("oneAPI").register_template(task)


class StoredPo2Type(NamedType):  # type: ignore[misc]
    """The type of stored weights, as hls4ml writes it into `defines.h`."""

    def __init__(self, name: str, precision: Any, exponent_bits: int, min_exponent: int) -> None:
        super().__init__(name, precision)
        self.template_arguments = f"{exponent_bits}, {min_exponent}"

    def definition_cpp(self) -> str:
        return f'#include "nnet_utils/nnet_po2.h"\ntypedef nnet::po2_weight<{self.template_arguments}> {self.name};\n'


def stored_codes(weights: Po2Weights) -> Codes:
    """Return {nonzero, negative, exponent} packed as `nnet_po2.h` reads them."""
    flags = weights.nonzero.astype(np.int64) * 2 + (weights.negative & weights.nonzero)
    return (flags << weights.exponent_bits) + weights.exponent


def value_exponent(op: MatMul, weights: Po2Weights) -> int:
    """Return the exponent that stored exponent 0 stands for, in values rather than codes."""
    return weights.min_exponent - op.weight.format.frac_bits


def store_exponents(model: Any, graph: IntGraph) -> None:
    """Replace the power-of-two weights of an hls4ml model, after its passes, by stored exponents."""
    for op in graph.ops:
        if not (isinstance(op, MatMul) and is_po2(op.weight.codes)):
            continue
        layer = model.graph[op.name]
        variable = layer.weights["weight"]
        codes = np.ldexp(variable.data, op.weight.format.frac_bits).astype(np.int64)  # in hls4ml's transposed order
        weights = split(codes)
        kind, smallest = variable.type, value_exponent(op, weights)
        stored = StoredPo2Type(kind.name, kind.precision, weights.exponent_bits, smallest)
        variable.data = stored_codes(weights).astype(np.float64)
        variable.precision_fmt = "{:.0f}"
        variable.type = stored
        layer.attributes["weight_t"] = stored
