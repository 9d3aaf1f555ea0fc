"""The zoo: tiny graphs, one row per corner of an op; being a row here gives an op every check of `test_zoo.py`.

Rows have the form that `extract` gives (exact formats, nothing fused). To add an op, add rows with its corners.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
from nets import Net, s, u

from flow.ir.fixed import FixedFormat, Overflow, Rounding
from flow.ir.graph import MERGES, IntGraph


def po2(*shape: int, exponents: tuple[int, int] = (0, 3), zeros: float = 0.4) -> np.ndarray:
    """Return weights that are 0 or plus/minus a power of two, both ends of `exponents` among them."""
    rng = np.random.default_rng([crc32(repr(shape).encode()), *exponents])
    weight = rng.choice([-1, 1], shape) << rng.integers(*exponents, shape, endpoint=True)
    weight = np.where(rng.random(shape) < zeros, 0, weight)
    weight.reshape(-1)[0], weight.reshape(-1)[-1] = 1 << exponents[1], -(1 << exponents[0])
    return weight


def ints(*shape: int, largest: int = 7) -> np.ndarray:
    """Return weights that are any integers up to `largest` in magnitude."""
    weight = np.random.default_rng([crc32(repr(shape).encode()), largest]).integers(-largest, largest, shape)
    weight.reshape(-1)[0] = largest
    return weight


def _rounding(rounding: Rounding, overflow: Overflow) -> Callable[[], Net]:
    """Return a row that rounds and overflows twice: fused into a dense, and by itself, signed and unsigned."""
    return lambda: (
        Net((4,), s(5, 1))
        .dense(ints(4, 5), [3, -2, 1, 0, 5], frac=2)
        .requantize(s(7, 1), rounding, overflow)
        .requantize(u(3), rounding, overflow)
    )


MODES = {
    Rounding.TRN: Overflow.WRAP,
    Rounding.TRN_ZERO: Overflow.SAT_ZERO,
    Rounding.RND: Overflow.SAT_SYM,
    Rounding.RND_ZERO: Overflow.WRAP,
    Rounding.RND_MIN_INF: Overflow.SAT,
    Rounding.RND_INF: Overflow.SAT_ZERO,
    Rounding.RND_CONV: Overflow.SAT_SYM,
}


def _average(rounding: Rounding, overflow: Overflow) -> Callable[[], Net]:
    return lambda: Net((5, 2), s(5)).average((3,), s(3, -1), (1,), "same", rounding, overflow)


def _cell() -> Net:
    """Return a body of two states on two grids, one of them also of the output, with products of two of its numbers."""
    body = Net((2,), s(3, 1), "body").port("h", (2,), s(3, 1)).port("c", (2,), s(4)).mark("row")
    body.back("h").dense(po2(2, 2, exponents=(0, 1)), [1, -1]).mark("product").back("row").merge("add", "product")
    body.mark("sums").gather(lambda sums: sums[::-1]).relu(limit=3).mark("gate")
    body.back("sums").merge("add", "c").requantize(s(4)).mark("sum").merge("multiply", "gate").mark("output")
    return body.requantize(s(3, 1)).mark("next")


def _merge(function: str) -> Callable[[], Net]:
    """Return a row that merges three inputs on three grids."""
    return lambda: (
        Net((2, 3), s(4))
        .port("b", (2, 3), u(3, 2))
        .port("c", (2, 3), s(5, 1))
        .merge(function, "b", "c")
        .requantize(s(6, 1))
    )


def _stuffed(x: np.ndarray, stride: int) -> np.ndarray:
    """Return positions with `stride - 1` zeros between the pixels of both axes."""
    out = np.full((x.shape[0] * stride - stride + 1, x.shape[1] * stride - stride + 1, x.shape[2]), -1)
    out[::stride, ::stride] = x
    return out


ROWS: dict[str, Callable[[], Net]] = {
    # dense
    "dense_unsigned_input": lambda: Net((5,), u(4)).dense(po2(5, 4), [3, -2, 0, 9]).relu().requantize(u(5, 1)),
    "dense_signed_input": lambda: Net((5,), s(4, 2)).dense(po2(5, 4), [3, -2, 0, 9], frac=3).requantize(s(5, 2)),
    "dense_one_bit_input": lambda: Net((6,), u(1)).dense(po2(6, 2)).relu().requantize(u(1, -1)),
    "dense_one_bit_sum": lambda: Net((3,), u(1)).dense([[1, 0], [0, 0], [0, 1]]).mark("sum").dense(po2(2, 3)),
    "dense_single_element": lambda: Net((1,), s(3)).dense([[-4]], [1]).requantize(s(4)),
    "dense_not_po2": lambda: Net((6,), s(5)).dense(ints(6, 3), [1, 2, 3], frac=4).requantize(s(6, 1)),
    "dense_all_zero": lambda: Net((3,), u(4)).dense(np.zeros((3, 4)), [5, 0, -3, 1]).requantize(s(3)),
    "dense_all_zero_without_bias": lambda: Net((3,), s(4)).dense(np.zeros((3, 2))).relu().requantize(u(2)),
    "dense_dead_channels": lambda: (
        Net((4,), u(4))
        .dense([[0, 1, 0, -2], [0, 0, 0, 4], [0, 2, 0, 0], [0, -8, 0, 1]], [0, 1, -7, 0])
        .relu()
        .requantize(u(4, -1))
    ),
    "dense_bias_finer_than_products": lambda: (
        Net((4,), u(3)).dense(po2(4, 3), [21, -13, 1], bias_frac=5).requantize(s(7, 1))
    ),
    "dense_bias_coarser_than_products": lambda: (
        Net((4,), u(3, 3)).dense(po2(4, 3), [2, -1, 3], frac=4, bias_frac=-1).requantize(s(8, 3))
    ),
    "dense_coarse_weights": lambda: Net((3,), s(4, -2)).dense(po2(3, 3), [1, 0, -1], frac=-3).requantize(s(5, -6)),
    "dense_wide_exponents": lambda: (
        Net((4,), s(5)).dense(po2(4, 3, exponents=(0, 17)), [77, 0, -9], frac=12).requantize(s(9, -2))
    ),
    "dense_over_24_bits": lambda: (
        Net((4,), s(12)).dense(ints(4, 3, largest=1 << 13), [1, -1, 0]).requantize(s(12, -14))
    ),
    "dense_over_32_bits": lambda: (
        Net((3,), s(16)).dense(po2(3, 3, exponents=(0, 20)), [1, -1, 0], frac=20).requantize(s(20, 2), Rounding.RND_INF)
    ),
    "dense_over_53_bits": lambda: (
        Net((3,), s(16)).dense(ints(3, 2, largest=1 << 40), [1, -1]).requantize(s(12, -44), Rounding.RND_CONV)
    ),
    "dense_exact_output": lambda: Net((4,), s(6, 1)).dense(ints(4, 3), [1, 2, -3], frac=2),
    "dense_relu_without_cast": lambda: Net((4,), s(4)).dense(po2(4, 3), [1, 2, -3]).relu(),
    "dense_twice": lambda: Net((4,), u(4)).dense(po2(4, 5)).dense(po2(5, 3), [1, 0, -2]).relu().requantize(u(6, -2)),
    # casts
    "cast_negative_int_bits": lambda: Net((4,), s(6, 5)).dense(po2(4, 3), frac=6).requantize(FixedFormat(True, -2, 6)),
    "cast_negative_frac_bits": lambda: Net((4,), s(6)).dense(po2(4, 3)).relu().requantize(FixedFormat(False, 6, -3)),
    "cast_symmetric": lambda: Net((4,), s(4)).dense(po2(4, 3)).requantize(s(3), overflow=Overflow.SAT_SYM),
    "cast_symmetric_to_the_same_format": lambda: Net((4,), s(4)).requantize(s(4), overflow=Overflow.SAT_SYM),
    "cast_to_a_finer_grid": lambda: Net((4,), s(4)).dense(po2(4, 3)).requantize(s(9, 3)),
    "cast_first": lambda: Net((4,), s(8, 4)).requantize(s(4, 1)).dense(po2(4, 3)).requantize(s(5)),
    "cast_twice": lambda: Net((4,), u(6, 2)).dense(po2(4, 3), frac=3).requantize(s(9, 3)).requantize(s(5, 1)),
    "cast_then_relu": lambda: Net((4,), u(6, 2)).dense(po2(4, 3), frac=3).requantize(s(5, 1)).relu(),
    "cast_wraps_after_relu": lambda: (
        Net((4,), s(5)).dense(ints(4, 3), [9, 0, -9]).relu().requantize(u(4), Rounding.TRN, Overflow.WRAP)
    ),
    "cast_rounds_to_minus_two": lambda: Net((2,), u(2)).dense([[-4], [1]]).requantize(s(3, -3)),
    "cast_signed_after_relu": lambda: Net((4,), s(5)).dense(ints(4, 3), [9, 0, -9]).relu().requantize(s(6, -1)),
    "cast_one_signed_bit_after_relu": lambda: Net((4,), s(5)).dense(ints(4, 3)).relu().requantize(s(1, -2)),
    **{f"cast_{rounding.name.lower()}": _rounding(rounding, overflow) for rounding, overflow in MODES.items()},
    # relu by itself
    "relu_first": lambda: Net((4,), s(5, 2)).relu().dense(po2(4, 3)).requantize(s(6, 1)),
    "relu_then_cast": lambda: Net((4,), s(6, 2)).relu().requantize(u(3)),
    # batch norm
    "batchnorm_po2": lambda: (
        Net((4,), u(4))
        .dense(po2(4, 3), frac=1)
        .batchnorm([4, 1, 2], [3, -5, 0], frac=2, offset_frac=4)
        .relu()
        .requantize(u(5, 1))
    ),
    "batchnorm_multiplier": lambda: (
        Net((4,), u(4))
        .dense(po2(4, 3), [1, 2, 3], frac=1)
        .batchnorm([5, 11, 3], [3, -5, 1], frac=3, offset_frac=1)
        .relu()
        .requantize(u(5, 1))
    ),
    "batchnorm_negative_and_zero_scale": lambda: (
        Net((4,), s(4)).dense(po2(4, 3), [1, 2, 3]).batchnorm([-4, 0, -1], [3, -5, 1], frac=1).relu().requantize(u(4))
    ),
    "batchnorm_first": lambda: (
        Net((3,), s(5)).batchnorm([3, -2, 0], [1, -7, 5], frac=1, offset_frac=3).requantize(s(5))
    ),
    "batchnorm_after_cast": lambda: (
        Net((4,), u(4))
        .dense(po2(4, 3))
        .requantize(s(5, -1))
        .batchnorm([3, -2, 1], [1, -7, 5], frac=1)
        .relu()
        .requantize(u(4, -1))
    ),
    "batchnorm_after_pool": lambda: (
        Net((4, 4, 2), s(5)).pool((2, 2)).batchnorm([3, -2], [1, -7], frac=1).relu().requantize(u(4))
    ),
    "batchnorm_exact_output": lambda: Net((2, 3, 2), s(4)).batchnorm([3, -2], [1, -7], frac=2),
    # convolution
    "conv_valid": lambda: Net((5, 5, 2), u(4)).conv(po2(3, 3, 2, 3), [1, -9, 4]).relu().requantize(u(4, -2)),
    "conv_same": lambda: Net((4, 5, 2), s(4)).conv(po2(3, 3, 2, 2), [5, -3], padding="same").requantize(s(5, -1)),
    "conv_same_even_kernel": lambda: (
        Net((4, 5, 1), s(4)).conv(po2(2, 4, 1, 2), [5, -3], padding="same").requantize(s(5))
    ),
    "conv_strided": lambda: Net((6, 7, 1), u(3)).conv(ints(3, 3, 1, 2), strides=(2, 2)).relu().requantize(u(5)),
    "conv_strided_same": lambda: (
        Net((5, 6, 2), u(3)).conv(po2(3, 3, 2, 2), strides=(2, 2), padding="same").relu().requantize(u(5))
    ),
    "conv_pointwise": lambda: Net((3, 4, 3), s(4)).conv(po2(1, 1, 3, 4), [1, -9, 4, 0]).relu().requantize(u(4)),
    "conv_pointwise_strided": lambda: Net((5, 5, 2), s(4)).conv(po2(1, 1, 2, 3), strides=(2, 2)).requantize(s(5)),
    "conv_not_square": lambda: Net((3, 8, 2), u(4)).conv(po2(2, 5, 2, 2), [1, -9], strides=(1, 1)).requantize(s(6, -1)),
    "conv_column": lambda: Net((6, 1, 2), u(4)).conv(po2(3, 1, 2, 2), [1, -9]).relu().requantize(u(6, -1)),
    "conv_whole_image": lambda: Net((3, 3, 2), s(4)).conv(po2(3, 3, 2, 4), [1, -9, 0, 2]).requantize(s(6, -1)),
    "conv_single_pixel": lambda: Net((1, 1, 1), s(4)).conv([[[[-2]]]], [3]).relu().requantize(u(3)),
    "conv_all_zero": lambda: Net((4, 4, 1), s(4)).conv(np.zeros((3, 3, 1, 2)), [3, -2]).requantize(s(3)),
    "conv_batchnorm": lambda: (
        Net((4, 4, 2), u(4))
        .conv(po2(3, 3, 2, 3), frac=2)
        .batchnorm([2, -1, 4], [3, 1, -5], frac=1, offset_frac=3)
        .relu()
        .requantize(u(5, 1))
    ),
    "conv_twice": lambda: (
        Net((6, 6, 1), u(4))
        .conv(po2(3, 3, 1, 3), [1, -9, 4])
        .relu()
        .requantize(u(4, -2))
        .conv(po2(3, 3, 3, 2), padding="same")
        .relu()
        .requantize(u(5, -4))
    ),
    # pooling and reordering
    "pool_valid": lambda: Net((5, 4, 2), s(4)).pool((2, 2)).requantize(s(3)),
    "pool_same": lambda: Net((5, 3, 2), s(4)).pool((2, 2), padding="same").requantize(s(3, -1)),
    "pool_same_unsigned": lambda: Net((3, 5, 1), u(4)).pool((2, 3), padding="same").requantize(u(3)),
    "pool_overlapping": lambda: Net((5, 7, 1), s(4)).pool((3, 3), (2, 2)).requantize(s(3, -1)),
    "pool_not_square": lambda: Net((2, 6, 1), u(4)).pool((1, 3)).requantize(u(3)),
    "pool_whole_image": lambda: Net((3, 3, 3), s(4)).pool((3, 3)).flatten().dense(po2(3, 2)).requantize(s(4)),
    "pool_exact_output": lambda: Net((4, 4, 3), s(5, 2)).conv(po2(1, 1, 3, 2)).requantize(s(4)).pool((2, 2)),
    "flatten": lambda: Net((2, 3, 2), u(4)).flatten().dense(ints(12, 3), [1, 2, 3]).relu().requantize(u(6, -2)),
    "flatten_after_conv": lambda: (
        Net((4, 4, 1), u(4))
        .conv(po2(3, 3, 1, 3), [1, -9, 4])
        .relu()
        .requantize(u(4, -2))
        .flatten()
        .dense(po2(12, 3), [1, 2, -3])
        .requantize(s(6, -3))
    ),
    "pool_1d": lambda: Net((9, 2), s(4)).pool((3,), (2,), padding="same").requantize(s(3, -1)),
    # one axis, groups
    "conv1d": lambda: Net((7, 2), u(4)).conv(po2(3, 2, 3), [1, -9, 4]).relu().requantize(u(4, -2)),
    "conv1d_strided_same": lambda: (
        Net((8, 2), s(4)).conv(ints(4, 2, 2), [5, -3], strides=(3,), padding="same").requantize(s(5, -1))
    ),
    "conv1d_pointwise": lambda: Net((5, 3), s(4)).conv(po2(1, 3, 2), [5, -3]).relu().requantize(u(5)),
    "conv1d_depthwise": lambda: Net((6, 3), s(4)).conv(po2(3, 1, 3), [5, -3, 0], groups=3).requantize(s(5)),
    "dense_on_a_sequence": lambda: Net((4, 3), s(4)).dense(ints(3, 2), [1, -5]).relu().requantize(u(5)),
    "dense_on_an_image": lambda: Net((2, 3, 3), u(3)).dense(po2(3, 4), [1, -5, 0, 2]).requantize(s(5)),
    "conv_depthwise": lambda: (
        Net((5, 4, 3), u(4)).conv(po2(3, 3, 1, 3), [5, -3, 0], groups=3, padding="same").relu().requantize(u(4, -1))
    ),
    "conv_depthwise_twice_the_channels": lambda: (
        Net((4, 4, 2), s(4)).conv(ints(2, 3, 1, 4), [5, -3, 0, 9], groups=2, strides=(2, 1)).requantize(s(6))
    ),
    "conv_groups": lambda: Net((4, 4, 4), s(3)).conv(po2(3, 3, 2, 6), [5, -3, 0, 9, 1, 1], groups=2).requantize(s(6)),
    # averages
    "average_po2": lambda: Net((4, 6, 2), s(5, 1)).average((2, 2), s(5, 1)),
    "average_of_nine": lambda: Net((6, 7, 2), s(5)).average((3, 3), s(7, 2), (2, 2)),
    "average_same": lambda: Net((5, 4, 2), u(4)).average((3, 3), u(6, 2), (2, 1), padding="same"),
    "average_1d": lambda: Net((7, 3), s(4)).average((3,), s(6, 2), (2,), padding="same"),
    "average_global": lambda: (
        Net((3, 5, 2), u(4)).average((3, 5), u(5, 2)).reshape(2).dense(po2(2, 3)).requantize(s(5))
    ),
    "average_global_cast_behind_reshape": lambda: (
        Net((3, 3, 2), u(4))
        .average((3, 3), s(12, 6))
        .reshape(2)
        .relu()
        .requantize(u(4))
        .dense(po2(2, 3))
        .requantize(s(5))
    ),
    "pool_global_relu_behind_reshape": lambda: Net((3, 2), s(5)).pool((3,)).reshape(2).relu().requantize(u(3)),
    "average_after_relu": lambda: (
        Net((4, 4, 1), u(4))
        .conv(po2(2, 2, 1, 2), [3, -20])
        .relu()
        .average((3, 3), u(5, -1))
        .flatten()
        .dense(po2(2, 2))
        .requantize(s(6))
    ),
    **{f"average_{rounding.name.lower()}": _average(rounding, overflow) for rounding, overflow in MODES.items()},
    # branches
    "residual": lambda: (
        Net((5, 5, 2), u(4))
        .conv(po2(3, 3, 2, 3), [1, -9, 4], padding="same")
        .relu()
        .requantize(u(4, -2))
        .mark("skip")
        .conv(po2(3, 3, 3, 3), [2, 0, -1], padding="same")
        .relu()
        .requantize(s(5, -3))
        .conv(ints(3, 3, 3, 3), padding="same")
        .requantize(s(6, -4))
        .merge("add", "skip")
        .relu()
        .requantize(u(5, -2))
    ),
    "residual_unquantized": lambda: (
        Net((6,), s(4)).mark("x").dense(po2(6, 6), frac=2).merge("add", "x").relu().requantize(u(5))
    ),
    "residual_twice": lambda: (
        Net((4, 4, 2), u(4))
        .mark("a")
        .conv(po2(3, 3, 2, 2), padding="same")
        .requantize(s(5))
        .merge("add", "a")
        .relu()
        .requantize(u(5))
        .mark("b")
        .conv(po2(3, 3, 2, 2), padding="same")
        .requantize(s(5))
        .merge("add", "b")
        .relu()
        .requantize(u(5))
    ),
    "branch_strided": lambda: (
        Net((6, 6, 1), u(4))
        .mark("x")
        .conv(po2(1, 1, 1, 2), strides=(2, 2))
        .requantize(s(5))
        .mark("short")
        .back("x")
        .conv(po2(3, 3, 1, 2), padding="same")
        .relu()
        .requantize(u(4, -1))
        .conv(po2(3, 3, 2, 2), strides=(2, 2), padding="same")
        .requantize(s(6, -2))
        .merge("add", "short")
        .requantize(s(5))
    ),
    "three_readers": lambda: (
        Net((4,), s(5))
        .requantize(s(4))
        .mark("x")
        .dense(po2(4, 4))
        .requantize(s(5))
        .mark("a")
        .back("x")
        .dense(ints(4, 4))
        .requantize(s(5, -1))
        .merge("add", "a", "x")
        .requantize(s(6))
    ),
    "merge_itself": lambda: Net((4,), s(4, 1)).mark("x").merge("multiply", "x").requantize(u(5)),
    **{f"merge_{function}": _merge(function) for function in MERGES},
    "average_of_three": lambda: (
        Net((5,), s(5, 1))
        .port("b", (5,), s(4))
        .port("c", (5,), u(4, 2))
        .merge("add", "b", "c")
        .requantize(s(6, 2), divisor=3)
    ),
    "two_inputs": lambda: (
        Net((4,), s(4))
        .port("other", (3, 3, 2), u(3))
        .mark("a")
        .back("other")
        .conv(po2(3, 3, 2, 4))
        .relu()
        .requantize(u(5))
        .flatten()
        .merge("add", "a")
        .requantize(s(6))
    ),
    "two_outputs": lambda: (
        Net((4,), s(4))
        .dense(po2(4, 5))
        .relu()
        .requantize(u(4))
        .mark("hidden")
        .leave("hidden")
        .dense(ints(5, 3), [1, 0, -1])
        .requantize(s(6))
    ),
    # moving codes
    "pad": lambda: (
        Net((3, 4, 2), u(4))
        .gather(lambda x: np.pad(x, ((1, 2), (0, 1), (0, 0)), constant_values=-1))
        .conv(po2(3, 3, 2, 2))
        .requantize(s(6))
    ),
    "crop": lambda: Net((5, 6, 2), s(4)).gather(lambda x: x[1:4, 2:]).requantize(s(3)),
    "upsample": lambda: Net((2, 3, 2), s(4)).gather(lambda x: x.repeat(2, 0).repeat(3, 1)).requantize(s(3)),
    "permute": lambda: Net((2, 3, 4), s(4)).gather(lambda x: x.transpose(2, 0, 1)).requantize(s(3)),
    "concatenate": lambda: (
        Net((2, 3, 2), s(4))
        .requantize(s(4, 2))
        .mark("a")
        .conv(po2(1, 1, 2, 3))
        .requantize(u(4, -1))
        .gather(lambda x, a: np.concatenate([x, a], axis=-1), "a")
        .requantize(s(5, 1))
    ),
    "concatenate_rows": lambda: (
        Net((2, 3), s(4)).port("b", (4, 3), u(3, 1)).gather(lambda x, b: np.concatenate([x, b]), "b").requantize(s(4))
    ),
    "concatenate_vectors": lambda: (
        Net((4,), s(4))
        .mark("x")
        .dense(po2(4, 3))
        .relu()
        .requantize(u(4))
        .gather(lambda y, x: np.hstack([y, x]), "x")
        .dense(ints(7, 2))
        .requantize(s(6))
    ),
    "transposed_convolution": lambda: (
        Net((3, 3, 2), u(3))
        .gather(lambda x: np.pad(_stuffed(x, 2), ((1, 2), (1, 2), (0, 0)), constant_values=-1))
        .conv(po2(3, 3, 2, 2), [1, -2])
        .requantize(s(5))
    ),
    "gather_exact_output": lambda: Net((3, 2), s(4)).gather(lambda x: x[::-1]),
    "reshape": lambda: Net((4, 6), s(4)).reshape(2, 4, 3).conv(po2(2, 2, 3, 2)).requantize(s(5)),
    # activations
    "relu_limit": lambda: Net((5,), s(6, 1)).dense(ints(5, 4), frac=1).relu(limit=24).requantize(u(4, 1)),
    "relu_limit_without_cast": lambda: Net((3, 2), s(6, 1)).relu(limit=9),
    "leaky_relu": lambda: Net((5,), s(5)).dense(po2(5, 4)).leaky([1], frac=3).requantize(s(6, 1)),
    "leaky_relu_per_channel": lambda: Net((2, 3), s(5, 1)).leaky([1, -2, 3], frac=2).requantize(s(6, 1)),
    "leaky_relu_per_element": lambda: Net((2, 3), s(5, 1)).leaky([[1, 0, 3], [2, 2, 1]], frac=1),
    "truth_table": lambda: (
        Net((2, 3), u(1))
        .truth_table(
            np.reshape([0, 3, 5, 1, 1, 2, 4, 0, 2, 5, -1, -1], (2, 2, 3)),
            np.zeros((2, 2, 3)),
            [[np.arange(8) % 3 - 1, [1, 0] * 4], [[-2] * 8, np.arange(8) % 4 - 2]],
            s(2),
        )
        .dense(ints(2, 2))
    ),
    "truth_table_of_two_inputs": lambda: (
        Net((3,), s(3, 1))
        .port("b", (2, 2), u(2))
        .truth_table(
            [[0, 0, 3], [2, 6, 5], [1, 4, 3]],
            [[2, 0, 1], [1, 0, 1], [2, 1, 0]],
            [np.arange(8) * k % 8 for k in (3, 1, 5)],
            u(3, -1),
            "b",
        )
        .requantize(u(3))
    ),
    "lookup_few_runs": lambda: Net((6,), s(5)).lookup([-16, -3, 0, 7], [-5, -1, 0, 6], s(4, 2)).dense(po2(6, 2)),
    "lookup_all_codes": lambda: (
        Net((3, 2), u(4)).lookup(range(16), [(7 * i) % 16 - 8 for i in range(16)], s(4)).requantize(s(3))
    ),
    "lookup_wide": lambda: (
        Net((4,), s(8))
        .dense(ints(4, 3), frac=2)
        .requantize(s(14, 2))
        .lookup([-8192, -900, 12, 5000], [-2, -1, 1, 2], s(3, 1))
    ),
    "lookup_on_multiples": lambda: (
        Net((4,), s(7)).lookup([-64, -32, -16, 0, 48], [-5, -4, 0, 2, 7], s(4)).dense(po2(4, 2)).requantize(s(5))
    ),
    "lookup_step_at_zero": lambda: Net((4,), s(12)).lookup([-2048, 0], [-1, 1], s(2)),
    "lookup_steps_at_the_ends": lambda: Net((4,), s(5)).lookup([-16, -15, 15], [3, 0, 1], u(2)),
    "lookup_many_wide_runs": lambda: Net((4,), s(13)).lookup(
        [-4096, -3999, -1001, 0, 777, 4095], [-3, -2, -1, 1, 2, 3], s(3)
    ),
    "lookup_of_a_sum": lambda: (
        Net((4,), s(8)).dense(1000 * ints(4, 3), frac=4).lookup([-(1 << 22), -70000, 1, 3333], [-2, -1, 1, 2], s(3, 1))
    ),
    "lookup_of_many_steps": lambda: (
        Net((6,), s(8)).dense(37 * ints(6, 3)).lookup([-(1 << 17), *range(-3000, 3000, 411), 9001], range(-8, 9), s(5))
    ),
    "lookup_of_forty_bits": lambda: Net((3,), s(40)).lookup(
        [-(1 << 39), -(1 << 38) + 7, -1, 0, 12345678901], [-3, -2, 0, 1, 3], s(3)
    ),
    "lookup_clamped": lambda: Net((4,), s(34)).lookup([-(1 << 33), *range(0, 64 << 8, 512)], [0, *range(32)], u(5)),
    "lookup_per_channel": lambda: Net((2, 3), s(6)).lookup(
        [[-32, -5, 7, 9], [-32, 0, 0, 0], [-32, -32, -32, -32]], [[-2, 0, 1, 3], [3, -1, -1, -1], [2, 2, 2, 2]], s(3)
    ),
    "lookup_per_channel_of_a_sum": lambda: (
        Net((5, 5, 2), s(6))
        .conv(900 * ints(3, 3, 2, 3), frac=3)
        .lookup([[-(1 << 22), -9000], [-(1 << 22), 0], [-(1 << 22), 123456]], [[0, 1], [1, 0], [0, 1]], u(1))
        .dense(po2(3, 2))
    ),
    "thresholds_behind_batchnorm": lambda: (
        Net((4,), s(6))
        .dense(ints(4, 3), frac=2)
        .batchnorm([70001, -30003, 0], [12345, -9, 77], frac=9, offset_frac=5)
        .lookup([-(1 << 27), -(1 << 20), -3000, 1, 77777, 1 << 22], [-2, -1, 0, 1, 2, 3], s(3))
        .dense(po2(3, 2))
    ),
    "lookup_constant": lambda: Net((4,), s(4)).lookup([-8], [3], u(2)),
    "softmax": lambda: Net((6,), s(5, 2)).dense(po2(6, 5)).requantize(s(6, 2)).softmax(u(8, 8)),
    "softmax_on_rows": lambda: Net((3, 4), u(4, 1)).softmax(FixedFormat(False, 1, 6)),
    "steps_of_a_recurrent_layer": lambda: (
        Net((3, 2), s(4, 1))
        .dense(ints(2, 4), [1, -3, 0, 2])
        .mark("rows")
        .gather(lambda rows: rows[0, :2])
        .requantize(s(4, 1))
        .mark("first")
        .dense(po2(2, 2))
        .mark("product")
        .back("rows")
        .gather(lambda rows: rows[1, 2:])
        .merge("add", "product")
        .requantize(s(4, 1))
        .mark("gate")
        .back("rows")
        .gather(lambda rows: rows[2, 1:3])
        .requantize(u(3, 1))
        .merge("multiply", "gate")
        .gather(lambda *steps: np.stack(steps), "first", "gate")
    ),
    "scan": lambda: (
        Net((3, 2), s(3, 1))
        .scan(_cell(), "output", "next", "sum")
        .requantize(s(3, 1))
        .scan(_cell(), "output", "next", "sum", every_row=False)
    ),
    "everything": lambda: (
        Net((10, 10, 1), u(4))
        .conv(po2(3, 3, 1, 3), frac=2)
        .batchnorm([2, -1, 4], [3, 1, -5], frac=1, offset_frac=3)
        .relu()
        .requantize(u(4, 1))
        .pool((2, 2))
        .conv(po2(3, 3, 3, 4), [1, 2, 0, -1], padding="same")
        .relu()
        .requantize(u(5, -1))
        .pool((2, 2))
        .flatten()
        .dense(po2(16, 6), frac=3)
        .batchnorm([3, -1, 5, 0, 2, 7], [3, 1, -5, 6, 0, 0], frac=2)
        .relu()
        .requantize(u(5, 0))
        .dense(po2(6, 4), [1, -1, 3, 0], bias_frac=2)
    ),
}


def row(name: str) -> IntGraph:
    """Return the graph of a row; it is called after the row."""
    net = ROWS[name]()
    net.name = f"zoo_{name}"
    return net.graph()
