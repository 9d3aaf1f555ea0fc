"""Extract: products of two computed tensors, against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras_configs import functional, kinds, layer, named, reads, values
from nets import s, u

from flow.errors import UnsupportedError
from flow.frontend.extraction import extract
from flow.frontend.trained import TrainedModel
from flow.ir.graph import Gather, Merge, Reshape, SumPool
from flow.ir.passes import lower

RNG = np.random.default_rng(9)


def dot(first: tuple[int, ...], second: tuple[int, ...], axes: Any, **config: Any) -> TrainedModel:
    parts = [named("a", *first), named("b", *second), reads(layer("Dot", "m", axes=axes, **config), "a", "b")]
    return functional(*parts, outputs=["m"])


@pytest.mark.parametrize(
    "first, second, axes",
    [
        ((3, 4), (5, 4), 2),
        ((3, 4), (4, 5), [2, 1]),
        ((4, 3), (4, 5), [1, -2]),
        ((4, 3), (5, 4), [1, -1]),
        ((4,), (4,), 1),
        ((4,), (3, 4), [-1, 2]),
        ((2, 3, 4), (5, 3), [2, 2]),
        ((1, 1), (1, 1), 1),
    ],
)
def test_dot_is_a_sum_of_products(first: tuple[int, ...], second: tuple[int, ...], axes: Any) -> None:
    graph = extract(dot(first, second, axes), s(5, 1))
    assert set(kinds(graph)) <= {Gather, Merge, SumPool, Reshape}
    x, y = RNG.integers(-16, 16, first), RNG.integers(-16, 16, second)
    pair = (axes, axes) if isinstance(axes, int) else axes
    left, right = ([axis - 1 if axis > 0 else axis] for axis in pair)
    expected = np.tensordot(x / 2, y / 2, (left, right))
    found = values(graph, np.concatenate([x.reshape(-1), y.reshape(-1)]))
    assert found.shape == (expected.shape or (1,)) and np.array_equal(found.reshape(expected.shape), expected)


def test_the_cast_behind_a_product_is_its_sums_own() -> None:
    act = reads(layer("QActivation", "act", activation="quantized_relu(4,4)"), "m")
    made = dot((3, 4), (5, 4), 2)
    entries = [*made.config["layers"][:2], made.config["layers"][2], act]
    lowered = lower(extract(functional(*entries, outputs=["act"]), s(4)))
    assert [op.kind for op in lowered.ops] == ["input", "input", "gather", "gather", "merge", "sumpool", "reshape"]
    assert lowered.output.format == u(4) and lowered.output.layers == ("m", "act")


@pytest.mark.parametrize(
    "model, why",
    [
        (
            dot((3, 4), (5, 3), 2),
            r"multiplies tensors of shapes \(3, 4\) and \(5, 3\), of which no axes of one size meet",
        ),
        (dot((3, 4), (5, 4), 3), r"axes \(3, 3\) are not those of one sample"),
        (dot((3, 4), (5, 4), [0, 0]), r"axes \(0, 0\) are not those of one sample"),
        (dot((3, 4), (5, 4), 2, normalize=True), "normalize=True divides by a root; normalize before it"),
        (dot((2048, 4), (2048, 4), 2), "makes 16777216 products; at most 4194304 are built"),
    ],
)
def test_what_is_no_product_is_refused(model: TrainedModel, why: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"layer 'm' \(Dot\): {why}"):
        extract(model, s(4))
