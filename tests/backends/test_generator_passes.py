"""What hls4ml would do to a network on its own: each op of a graph is a call of the project, or the graph is refused.

The nets provoke the passes of hls4ml 1.3.0 that drop, merge, insert or replace layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import zoo
from conftest import Simulate, needs_compiler
from hls4ml.backends import get_backend
from hls4ml.model.flow import get_flow
from nets import Net, inputs, s, u

from flow.backends.base import BACKENDS
from flow.backends.functions import functions
from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.emit import REWRITES, emit
from flow.backends.hls4ml.readback import findings
from flow.errors import UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Overflow, Rounding
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.target import Target

DROPPED: dict[str, Callable[[], Net]] = {
    "identity_normalization": lambda: cast_dense().batchnorm([1] * 3, [0] * 3).requantize(s(4)),
    "identity_normalization_at_the_end": lambda: cast_dense().batchnorm([4] * 3, [0] * 3, frac=2),
    "identity_normalization_of_the_input": lambda: Net((4,), u(4)).batchnorm([1] * 4, [0] * 4).relu().requantize(u(3)),
    "identity_normalization_of_an_image": lambda: (
        Net((5, 5, 2), u(4)).conv(zoo.po2(2, 2, 2, 3)).requantize(s(5)).batchnorm([1] * 3, [0] * 3).requantize(s(4))
    ),
    "two_identity_normalizations": lambda: Net((4,), s(4)).batchnorm([1] * 4, [0] * 4).batchnorm([1] * 4, [0] * 4),
    "two_normalizations": lambda: (
        cast_dense().batchnorm([1, 2, 1], [0, 1, 0]).requantize(s(6)).batchnorm([2, 1, 3], [1, 0, 1]).requantize(s(4))
    ),
    "cast_to_the_same": lambda: cast_dense().requantize(s(5, 1)).requantize(s(5, 1)),
    "cast_to_the_same_symmetrically": lambda: (
        Net((4,), s(4)).requantize(s(4), overflow=Overflow.SAT_SYM).requantize(s(4), overflow=Overflow.SAT_SYM)
    ),
    "cast_of_the_input_to_the_same": lambda: (
        Net((4,), s(4)).requantize(s(4), Rounding.TRN, Overflow.WRAP).dense(zoo.po2(4, 3)).requantize(s(4))
    ),
}
"""Nets with ops that passes would drop or merge."""
REPLACED: dict[str, Callable[[], Net]] = {
    "relu_of_relu": lambda: Net((4,), s(4)).relu().requantize(u(3)).relu().relu().requantize(u(2)),
    "reshapes_in_a_row": lambda: (
        Net((4, 6), s(5)).reshape(24).reshape(2, 12).reshape(24).dense(zoo.po2(24, 3)).requantize(s(4))
    ),
    "reshape_to_the_same": lambda: Net((4,), s(5)).reshape(4).dense(zoo.po2(4, 3)).requantize(s(4)),
    "convolution_of_three": lambda: Net((6, 6, 2), u(4)).conv(zoo.ints(3, 3, 2, 3), padding="same").requantize(s(6)),
    "convolution_of_three_over_a_sequence": lambda: Net((8, 2), u(4)).conv(zoo.ints(3, 2, 3)).requantize(s(6)),
    "convolution_of_one_pixel": lambda: Net((4, 4, 2), u(4)).conv(zoo.po2(1, 1, 2, 3), strides=(2, 2)).requantize(s(6)),
    "image_of_one_pixel": lambda: (
        Net((1, 1, 2), u(4)).conv(zoo.po2(1, 1, 2, 3)).requantize(s(6)).flatten().dense(zoo.po2(3, 2)).requantize(s(3))
    ),
    "one_element": lambda: Net((1,), s(3)).dense([[1]], [0]).requantize(s(3)),
    "binary_weights": lambda: Net((6,), u(1)).dense(np.where(zoo.ints(6, 3) > 0, 1, -1)).requantize(s(4)),
    "ternary_weights": lambda: (
        Net((6,), s(2)).dense(np.sign(zoo.ints(6, 3))).requantize(s(2)).dense(np.sign(zoo.ints(3, 3))).requantize(s(3))
    ),
    "weights_of_one": lambda: Net((3,), s(4)).dense(np.eye(3, dtype=int)).requantize(s(4)),
    "weights_of_zero": lambda: Net((3,), s(4)).dense(np.zeros((3, 2), int)).requantize(s(2)).relu(),
    "dense_over_axes": lambda: Net((4, 3, 2), s(4)).dense(zoo.po2(2, 2)).requantize(s(4)),
    "pool_of_one_pixel": lambda: Net((4, 4, 2), u(4)).pool((1, 1)).conv(zoo.po2(2, 2, 2, 3)).requantize(s(6)),
}
"""Nets in which passes replace a layer by another, or insert one."""
TARGETS = [
    Target(backend=name, io_type=io_type, strategy=BACKENDS[name].strategies[0])
    for name, dialect in DIALECTS.items()
    for io_type in dialect.io_types
]
FIRST = [target for target in TARGETS if target.io_type == "io_parallel"]


def cast_dense() -> Net:
    return Net((4,), u(4)).dense(zoo.po2(4, 3)).requantize(s(5, 1))


def check(graph: IntGraph, target: Target) -> bool:
    """Hold that a graph is refused beforehand or emitted as it is; say which."""
    if refused := list(functions(target).refusals(graph, target)):
        with pytest.raises(UnsupportedError):
            emit(graph, target)
        assert all(refusal.named or refusal.where for refusal in refused)
        return False
    assert not list(findings(emit(graph, target), graph, target))
    return True


@pytest.mark.parametrize("target", FIRST, ids=lambda target: target.backend)
@pytest.mark.parametrize("name", DROPPED)
def test_no_op_is_dropped_or_merged(name: str, target: Target) -> None:
    emitted = check(lower(DROPPED[name]().graph()), target)
    assert emitted or target.backend == "Libero"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("name", [*DROPPED, *REPLACED])
def test_every_net_is_refused_or_exact(name: str, target: Target, simulate: Simulate) -> None:
    graph = lower((DROPPED | REPLACED)[name]().graph())
    if check(graph, target) and target.backend in ("Quartus", "Catapult"):
        codes = inputs(graph, 40)
        result, expected = simulate(emit(graph, target), graph, codes), reference.run(graph, codes)
        for op in graph.ops:
            assert np.array_equal(result.codes[op.name], expected.codes[op.name]), op.name


@needs_compiler
@pytest.mark.parametrize("backend", ["Quartus", "Catapult"])
def test_an_identity_normalization_computes_nothing_else(backend: str, simulate: Simulate) -> None:
    graph = lower(DROPPED["identity_normalization"]().graph())
    assert [op.kind for op in graph.ops] == ["input", "dense", "batchnorm"]
    codes = inputs(graph, 60)
    result = simulate(emit(graph, Target(backend=backend)), graph, codes)
    assert np.array_equal(result.codes[graph.output.name], reference.run_output(graph, codes))


KNOWN = """
apply_resource_strategy apply_winograd_kernel_transformation batch_norm_onnx_constant_parameters bias_down_add
bipolar_quant_constant_parameters bipolar_quant_to_activation bipolar_quant_to_alpha_activation_alpha bit_exact
broadcast_stream channels_last_converter clone_output const_bipolar_quant_to_const_alpha const_quant_to_const_alpha
constant_batch_norm_fusion conv_to_conv_x_d conv_to_depthwise_conv_x_d distributed_arithmetic_codegen
distributed_arithmetic_einsum_codegen enforce_proxy_model_embedded_config expand_layer_group expand_time_distributed
extract_ternary_threshold fix_input_precision fix_softmax_table_size fuse_bias_add fuse_bipolar_quant_with_constant
fuse_fixed_point_quantizer fuse_quant_with_constant fuse_quantizer_into_d_a_layers generate_conv_im2col
generate_conv_streaming_instructions generate_unrolled_dense_resource infer_precision_types init_activation
init_base_layer init_bidirectional init_conv1d init_conv2d init_dense init_depconv1d init_depconv2d init_einsum
init_einsum_dense init_embed init_garnet init_garnet_stack init_global_pooling1d init_global_pooling2d init_gru
init_lstm init_pooling1d init_pooling2d init_sepconv1d init_sepconv2d init_simple_rnn init_softmax
init_time_distributed inplace_parallel_reshape inplace_stream_flatten insert_zero_padding_before_conv1d
insert_zero_padding_before_conv2d matmul_const_to_dense merge_batch_norm_quantized_tanh merge_to_apply_alpha
merge_to_apply_alpha_div merge_two_constants optimize_pointwise_conv output_rounding_saturation_mode padding_constant
process_fixed_point_quantizer_layer qkeras_factorize_alpha quant_constant_parameters quant_to_activation
quant_to_alpha_activation_alpha quantize_dense_output register_bram_weights remove_final_reshape remove_nop_transpose
remove_single_channel_transpose remove_transpose_before_flatten replace_multidimensional_dense_with_conv
reshape_constant reshape_stream resize_remove_constants scale_down_add scale_down_conv scale_down_mat_mul
separable_to_depthwise_and_conv set_pipeline_style skip_softmax transform_types validate_ac_types
validate_bidirectional_io_type validate_bidirectional_merge_mode validate_conv_implementation
validate_resource_strategy validate_resource_unrolled_strategy validate_std_cpp_types xnor_pooling
"""
"""Passes that were read: they rewrite nothing that a layer list of ours has, or what is asked for."""


def passes() -> set[str]:
    """Return every pass of the flows of our back ends, templates aside."""
    named: set[str] = set()

    def walk(name: str) -> None:
        flow = get_flow(name)
        named.update(each.partition(":")[2] or each for each in flow.optimizers if not each.endswith("_template"))
        for required in flow.requires:
            walk(required)

    for backend in DIALECTS:
        walk(get_backend(backend).get_default_flow())
    return named


def test_no_pass_is_unknown() -> None:
    """A pass that a new hls4ml brings must be read, and switched off if it rewrites what a graph says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert passes() == {*KNOWN.split(), *REWRITES}
