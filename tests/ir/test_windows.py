"""Windows: their geometry against windows counted pixel by pixel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flow.ir.windows import Window

IMAGES = [
    ((5, 6, 2), Window((2, 3), (2, 1), ((0, 1), (2, 0)))),
    ((7, 3), Window((3,), (3,), ((1, 1),))),
    ((4, 4, 1), Window((1, 1), (3, 2), ((0, 0), (0, 0)))),
]


@pytest.mark.parametrize(("shape", "window"), IMAGES)
def test_windows_hold_the_pixels_that_a_walk_over_the_image_finds(shape: tuple[int, ...], window: Window) -> None:
    order = np.arange(np.prod(shape[:-1])).reshape(shape[:-1])
    padded = np.pad(order, window.pads, constant_values=-1)
    assert window.padded(shape) == (*padded.shape, shape[-1])
    spans = [
        range(0, size - span + 1, step)
        for size, span, step in zip(padded.shape, window.size, window.strides, strict=True)
    ]
    assert window.positions(shape) == tuple(map(len, spans))
    walked = [
        padded[tuple(slice(first, first + span) for first, span in zip(place, window.size, strict=True))]
        for place in product(*spans)
    ]
    assert np.array_equal(window.places(shape), np.reshape(walked, (-1, window.pixels)))
    counts = window.counts(window.positions(shape))
    assert np.array_equal(counts.reshape(-1), (window.places(shape) >= 0).sum(axis=1))


def test_padding_in_a_row_and_pair_by_pair() -> None:
    _, window = IMAGES[0]
    assert window.padding == (0, 1, 2, 0)
    assert Window.with_padding(window.size, window.strides, window.padding) == window
    assert window.unpadded().pads == ((0, 0), (0, 0))
