"""Windows over images and sequences: their geometry, and which pixels each of them holds.

Shapes are channels last, without a batch axis; a window spans the axes before the channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flow.ir.fixed import Codes

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A window that moves over an image.

    Attributes:
        size, strides: per axis.
        pads: pixels added (before, after), per axis.

    Example:
        >>> window = Window((3, 3), (2, 2), ((0, 1), (0, 1)))
        >>> window.positions((8, 8, 5)), window.padded((8, 8, 5))
        ((4, 4), (9, 9, 5))
    """

    size: Shape
    strides: Shape
    pads: tuple[tuple[int, int], ...]

    @classmethod
    def with_padding(cls, size: Shape, strides: Shape, padding: Shape) -> Window:
        """Return a window whose pads stand in a row, (before, after) axis by axis."""
        return cls(size, strides, tuple(zip(padding[::2], padding[1::2], strict=True)))

    @property
    def padding(self) -> Shape:
        """The pads in a row, (before, after) axis by axis."""
        return tuple(pad for pads in self.pads for pad in pads)

    @property
    def pixels(self) -> int:
        """How many pixels it holds, padding included."""
        return math.prod(self.size)

    def unpadded(self) -> Window:
        """Return the window over an image that has its padding already."""
        return Window(self.size, self.strides, ((0, 0),) * len(self.size))

    def padded(self, x: Shape) -> Shape:
        """Return the shape of an image with its padding."""
        return (*(size + sum(pads) for size, pads in zip(x[:-1], self.pads, strict=True)), *x[-1:])

    def positions(self, x: Shape) -> Shape:
        """Return how many windows fit along each axis of an image of shape `x`."""
        return tuple(
            (size - span) // step + 1
            for size, span, step in zip(self.padded(x)[:-1], self.size, self.strides, strict=True)
        )

    def places(self, x: Shape) -> Codes:
        """Return which pixels of an image of shape `x` each window holds: int64 (windows, pixels), -1 for padding."""
        order = np.arange(math.prod(x[:-1])).reshape(x[:-1])
        views = np.lib.stride_tricks.sliding_window_view(np.pad(order, self.pads, constant_values=-1), self.size)
        every = views[tuple(slice(None, None, step) for step in self.strides)]
        return every.reshape(-1, self.pixels).astype(np.int64)

    def counts(self, positions: Shape) -> Codes:
        """Return how many real pixels each of so many windows along each axis holds: int64 of that shape."""
        counts = np.ones((), np.int64)
        for out, span, step, (before, after) in zip(positions, self.size, self.strides, self.pads, strict=False):
            first = np.arange(out) * step - before
            size = (out - 1) * step + span - before - after  # pixels behind the last window are in none
            counts = np.multiply.outer(counts, np.minimum(first + span, size) - np.maximum(first, 0))
        return counts.astype(np.int64)
