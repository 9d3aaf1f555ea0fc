"""Our kernels as layers of hls4ml (its Extension API), so that it declares, connects and traces them as its own."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from hls4ml.backends import get_backend
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.model.layers import Layer, register_layer

from flow.backends.hls4ml.kernels import CONFIG, OUTPUT_FIRST

HEADER = "nnet_utils/nnet_flow.h"


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
    def __init__(self) -> None:
        super().__init__(FlowKernel, include_header=[HEADER])

    def format(self, node: Any) -> str:
        inputs = [node.get_input_variable(name) for name in node.inputs]
        out, function, config = node.get_output_variable(), node.get_attr("function"), f"config{node.index}"
        if function in OUTPUT_FIRST:
            arguments = ", ".join(variable.name for variable in (out, *inputs))
            return f"nnet::{function}<{out.type.name}, {config}>({arguments});"
        return f"nnet::{function}<{inputs[0].type.name}, {out.type.name}, {config}>({inputs[0].name}, {out.name});"


class _CopyCall(FunctionCallTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(FlowCopy, include_header=[HEADER])

    def format(self, node: Any) -> str:
        source, out = node.get_input_variable(), node.get_output_variable()
        common = math.gcd(source.shape[-1], out.shape[-1])
        types = f"{source.type.name}, {out.type.name}, {math.prod(out.shape)}, {common}"
        return f"nnet::copy_codes<{types}>({source.name}, {out.name});"


class _CloneCall(FunctionCallTemplate):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(FlowClone, include_header=["nnet_utils/nnet_stream.h"])

    def format(self, node: Any) -> str:
        source, out = node.get_input_variable(), node.get_output_variable()
        arguments = ", ".join([source.name, *(variable.name for variable in node.get_variables())])
        return f"nnet::clone_stream<{source.type.name}, {out.type.name}, {math.prod(source.shape)}>({arguments});"


@cache
def register() -> None:
    """Make the layers known to hls4ml, once; its Vitis back end takes its templates from the Vivado back end."""
    for layer in (FlowKernel, FlowCopy, FlowClone):
        register_layer(layer.__name__, layer)
    backend = get_backend("Vivado")
    for template in (_KernelConfig, _KernelCall, _CopyCall, _CloneCall):
        backend.register_template(template)
