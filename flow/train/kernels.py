"""Kernels: which variables of a layer they are, what quantizes each, and each as a matrix with a column a neuron."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.train import load_tensorflow

tf: Any = load_tensorflow().tf

KERNELS: Mapping[str, str] = {"kernel": "kernel", "depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise"}
"""Variable of a layer -> what its quantizer is called after."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A kernel of a layer.

    Attributes:
        layer: the layer.
        variable: its variable.
        what: what its quantizer is called after, one of the values of `KERNELS`.
    """

    layer: Any
    variable: Any
    what: str

    @property
    def quantizer(self) -> Any:
        """What quantizes it, or None."""
        return getattr(self.layer, f"{self.what}_quantizer_internal", None)

    @property
    def shape_of_channels(self) -> tuple[int, ...]:
        """The last axes of the variable, which count neurons or channels; two of a depthwise kernel."""
        return tuple(int(size) for size in self.variable.shape[-2 if self.what == "depthwise" else -1 :])

    @property
    def columns(self) -> int:
        """How many neurons or channels it has."""
        return int(np.prod(self.shape_of_channels))

    def quantized(self) -> Any:
        """Return what its quantizer makes of it, as a matrix with a column for each neuron."""
        held = self.variable if self.quantizer is None else self.quantizer(self.variable)
        return tf.reshape(held, (-1, self.columns))


def kernels_of(layer: Any) -> tuple[Kernel, ...]:
    """Return the kernels of a layer that is built."""
    held = ((getattr(layer, key, None), what) for key, what in KERNELS.items())
    return tuple(Kernel(layer, variable, what) for variable, what in held if isinstance(variable, tf.Variable))


def kernel_of(layer: Any) -> Kernel | None:
    """Return the kernel of a layer, the first if it has several; None if it has none."""
    return next(iter(kernels_of(layer)), None)
