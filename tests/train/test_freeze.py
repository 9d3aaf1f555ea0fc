"""What layers multiply with at inference, bit for bit: read off their predictions for unit inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixtures_keras import bits, dense, keras, layers, po2, qkeras, scatter, sequential, wired

from flow.errors import UnsupportedError
from flow.train import quiet_warnings
from flow.train.freeze import layers_by_path, quantized_weights, revived, set_quantized_weights, sparsity

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing

QUANTIZERS = {
    "bits": lambda: bits(4, 0),
    "scale found": lambda: bits(4, 0, alpha="auto"),
    "scale given": lambda: bits(5, 1, alpha=0.7),
    "unsigned": lambda: bits(3, 0, keep_negative=False),
    "po2": lambda: po2(4),
    "binary": lambda: qkeras.binary(alpha="auto"),
    "ternary": qkeras.ternary,
    "stochastic": qkeras.stochastic_ternary,
    "ulaw": lambda: qkeras.quantized_ulaw(4),
}


def answers(layer: Any, shape: tuple[int, ...]) -> tuple[dict[str, Any], Any, Any]:
    """Return the frozen arrays of a layer, its output for zeros, and for a one at each place of its input."""
    with quiet_warnings():
        model = wired(layer, shape)
        size = int(np.prod(shape))
        found = model.predict(np.eye(size + 1, size, -1).reshape(-1, *shape), verbose=0).reshape(size + 1, -1)
        (group,) = quantized_weights(model).values()
    return group, found[0], found[1:]


def offset() -> Any:
    return bits(6, 1, alpha=1)


@pytest.mark.parametrize("what", QUANTIZERS)
def test_dense(what: str) -> None:
    kernel, biased = QUANTIZERS[what](), QUANTIZERS[what]()
    group, _, ones = answers(qkeras.QDense(3, kernel_quantizer=kernel, use_bias=False), (5,))
    np.testing.assert_array_equal(ones, group["kernel"])
    group, zero, ones = answers(qkeras.QDense(3, kernel_quantizer=biased, bias_quantizer=offset()), (5,))
    np.testing.assert_array_equal(zero, group["bias"])
    np.testing.assert_array_equal(ones, group["kernel"] + group["bias"])


@pytest.mark.parametrize("what", QUANTIZERS)
def test_convolutions_with_a_batch_normalization_inside(what: str) -> None:
    layer = qkeras.QConv2DBatchnorm(4, 3, kernel_quantizer=QUANTIZERS[what](), bias_quantizer=offset(), use_bias=False)
    group, zero, ones = answers(layer, (3, 3, 2))
    np.testing.assert_array_equal(zero, group["bias"], "without use_bias too")
    np.testing.assert_array_equal(ones, group["kernel"].reshape(18, 4) + group["bias"])


@pytest.mark.parametrize("what", QUANTIZERS)
@pytest.mark.parametrize("folded", [False, True])
def test_depthwise_convolutions(what: str, folded: bool) -> None:
    cls = qkeras.QDepthwiseConv2DBatchnorm if folded else qkeras.QDepthwiseConv2D
    quantizers = {"depthwise_quantizer": QUANTIZERS[what](), "bias_quantizer": offset()}
    group, zero, ones = answers(cls(3, depth_multiplier=2, **quantizers), (3, 3, 2))
    np.testing.assert_array_equal(zero, group["bias"])
    assert group["kernel"].shape == (3, 3, 2, 2)
    ones = ones.reshape(3, 3, 2, 2, 2)  # place, channel in, channel out, multiplier
    for channel in range(2):
        own = ones[:, :, channel, channel]
        np.testing.assert_array_equal(own, group["kernel"][:, :, channel] + group["bias"].reshape(2, 2)[channel])


@pytest.mark.parametrize("what", ["bits", "po2", "ternary"])
@pytest.mark.parametrize("axes", [1, 2])
def test_separable_convolutions(what: str, axes: int) -> None:
    cls = qkeras.QSeparableConv1D if axes == 1 else qkeras.QSeparableConv2D
    quantizers = {"depthwise_quantizer": QUANTIZERS[what](), "pointwise_quantizer": QUANTIZERS[what]()}
    group, zero, ones = answers(cls(4, 2, use_bias=False, **quantizers), (*(2,) * axes, 3))
    assert not zero.any()
    products = group["depthwise_kernel"].reshape(-1, 3, 1) * group["pointwise_kernel"].reshape(1, 3, 4)
    np.testing.assert_array_equal(ones, products.reshape(-1, 4))


def test_quantized_batch_normalization() -> None:
    for layer in (
        qkeras.QBatchNormalization(),
        qkeras.QBatchNormalization(scale=False, center=False),
        qkeras.QBatchNormalization(mean_quantizer=None, variance_quantizer=None, gamma_quantizer=None),
    ):
        group, zero, ones = answers(layer, (4,))
        np.testing.assert_array_equal(zero, group["offset"])
        np.testing.assert_array_equal(np.diag(ones), group["scale"] + group["offset"])


def test_slopes() -> None:
    group = quantized_weights(wired(layers.PReLU(shared_axes=[1]), (3, 2)))["p_re_lu"]
    assert group["slope"].shape == (1, 2)


def test_transposed_kernels_keep_their_axes() -> None:
    (group,) = quantized_weights(wired(layers.Conv2DTranspose(4, 3), (3, 3, 2))).values()
    assert (group["kernel"].shape, group["bias"].shape) == ((3, 3, 4, 2), (4,))


@pytest.mark.parametrize("everything", [False, True])
def test_the_multiplier_of_an_average(everything: bool) -> None:
    more: dict[str, Any] = {} if everything else {"pool_size": (2, 4)}
    cls = qkeras.QGlobalAveragePooling2D if everything else qkeras.QAveragePooling2D
    group, _, ones = answers(cls(average_quantizer=bits(4, 0, alpha=0.5), **more), (2, 4, 1))
    assert group["multiplier"].shape == ()
    np.testing.assert_array_equal(ones, np.full((8, 1), group["multiplier"]))
    assert quantized_weights(wired(cls(**more), (2, 4, 1))) == {}


def test_a_global_average_over_several_sizes_has_no_multiplier() -> None:
    layer = qkeras.QGlobalAveragePooling2D(average_quantizer=bits(4, 0), name="mean")
    model = wired(lambda x, y: [layer(x), layer(y)], (2, 4, 1), (2, 2, 1))
    with pytest.raises(UnsupportedError, match="layer 'mean': is called on images of several sizes"):
        quantized_weights(model)


def test_random_weights_are_refused() -> None:
    model = sequential((4,), dense(3, "odd", qkeras.bernoulli(alpha=1.0)))
    with pytest.raises(UnsupportedError, match="layer 'odd': its quantizer is random"):
        quantized_weights(model)


def test_layers_are_known_by_their_path() -> None:
    inner = sequential((4,), dense(4, "same"))
    with quiet_warnings():
        inputs = layers.Input((4,))
        outer = keras.Model(inputs, dense(4, "same")(inner(inputs)), name="outer")
        model = scatter(keras.Sequential([layers.InputLayer((4,)), outer, dense(2, "same")]), 1)
    assert layers_by_path(model).keys() >= {"outer/same", f"outer/{inner.name}/same", "same"}
    assert len(quantized_weights(model)) == 3


def test_two_layers_of_one_path_are_refused() -> None:
    inner = sequential((4,), dense(4, "same"))
    with pytest.raises(UnsupportedError, match="two layers are called"):
        quantized_weights(sequential((4,), inner, dense(2, f"{inner.name}/same")))


@pytest.mark.parametrize("what", ["po2", "binary", "depthwise", "separable", "folded"])
def test_every_kernel_that_pruning_loses_is_told(what: str) -> None:
    made = {
        "po2": lambda: dense(3, "pruned"),
        "binary": lambda: dense(3, "pruned", qkeras.binary(alpha=1)),
        "depthwise": lambda: qkeras.QDepthwiseConv2D(1, depthwise_quantizer=po2(4, 1), name="pruned"),
        "separable": lambda: qkeras.QSeparableConv2D(
            2, 1, depthwise_quantizer=bits(4, 0), pointwise_quantizer=po2(4, 1), name="pruned"
        ),
        "folded": lambda: qkeras.QConv2DBatchnorm(2, 1, kernel_quantizer=po2(4, 1), name="pruned"),
    }[what]()
    model = sequential((4,) if what in ("po2", "binary") else (2, 2, 4), made)
    key = {"depthwise": "depthwise_kernel", "separable": "pointwise_kernel"}.get(what, "kernel")
    variable = getattr(made, key)
    values = np.ones(variable.shape, np.float32)
    values.reshape(-1)[:2] = 0
    variable.assign(values)
    weights = quantized_weights(model)
    (line,) = map(str, revived(model, weights))
    assert line.startswith(f"layer 'pruned': 2 of {values.size} weights were pruned to zero")
    assert "turns each into +" in line
    assert sparsity(weights) == 0
    variable.assign(np.ones_like(values))
    assert list(revived(model, quantized_weights(model))) == []


@pytest.mark.parametrize("count", [3, 16, 2001])
def test_a_batch_normalization_of_keras_is_set_to_any_scale_and_offset(count: int) -> None:
    rng = np.random.default_rng(count)
    scale, shift = (np.float32(rng.normal(0, 1, count) * np.exp2(rng.uniform(-9, 9, count))) for _ in range(2))
    scale[:3] = 0, -2, np.nextafter(np.float32(2), np.float32(0))
    model = wired(layers.BatchNormalization(name="bn"), (count,))
    set_quantized_weights(model, {"bn": {"scale": scale, "offset": shift}})
    group = quantized_weights(model)["bn"]
    assert np.array_equal(group["scale"], scale) and np.array_equal(group["offset"], shift)
    model = wired(layers.BatchNormalization(name="bn", center=False), (count,))
    with pytest.raises(UnsupportedError, match="layer 'bn': a batch normalization with center or scale off"):
        set_quantized_weights(model, {"bn": {"scale": scale, "offset": shift}})
