"""An estimate of the LUTs that a Keras model takes as Verilog, from its weights while it trains; gradients pass it.

What is counted is what the weights and formats of this step would take: digits of weights (zeros are free), each an
adder as wide as what it adds and as long as it reaches below the top of its sum; bits of outputs; tables by the bits of
their address. Yosys' counts of random nets give the factors (`benchmarks/loss_cost.py`, docs/pruning.md).

The gradient is that of a smooth count: of a weight log2(1 + |w| / step) / 3, about as many digits as a number of
that size has, so that small weights are drawn to zero most.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flow.errors import SpecError, UnsupportedError, shown
from flow.train import load_tensorflow
from flow.train.freeze import layers_by_path
from flow.train.kernels import Kernel, kernel_of
from flow.train.learned import LearnedFormat
from flow.train.quantizers import quantized_grid

keras: Any
qkeras: Any
tf, keras, qkeras = load_tensorflow()

COEFFICIENTS = Path(str(resources.files("flow.train"))) / "lut_cost.json"
"""What benchmarks/loss_cost.py wrote: LUTs for each of `FEATURES`, and how far the estimate was off."""
FEATURES = ("sum_bits", "sums", "spread", "sum_width", "output_bits", "table_bits", "scale_bits", "line_bits", "ops")
IO_TYPES = ("io_parallel", "io_stream")
PROBES = np.concatenate([np.ldexp(numerator, np.arange(-24, 8)) for numerator in (1.0, 3.0)]).astype(np.float32)
CASTS = ("quantized_relu", "quantized_bits", "LearnedFormat")
DEFAULT_BITS = 8
"""Of inputs that no quantizer of the model rounds."""
LUT_INPUTS = 6


@cache
def fitted() -> Mapping[str, Any]:
    """Return what benchmarks/loss_cost.py wrote: `lut`, LUTs for each of `FEATURES`, and `error`."""
    coefficients: Mapping[str, Any] = json.loads(COEFFICIENTS.read_text())
    return coefficients


@dataclass(slots=True)
class Signal:
    """What a layer gives: how many bits each of its numbers has, for each channel or for all, and how many there are.

    Attributes:
        bits: a tensor or a number; a gradient passes it where a format is learned.
        count: numbers of one sample that have hardware of their own.
    """

    bits: Any
    count: int


class Features:
    """How much of each kind of hardware a model takes, `FEATURES`, as tensors.

    Args:
        model: a built Keras model.
        io_type: "io_parallel" (each position of a convolution has hardware of its own) or "io_stream".

    Raises:
        UnsupportedError: no layer of it has a kernel.
    """

    def __init__(self, model: Any, io_type: str = IO_TYPES[0]) -> None:
        if io_type not in IO_TYPES:
            raise SpecError(f"io_type is {shown(io_type)}", remedy=f"expected {' or '.join(IO_TYPES)}")
        self.model, self.stream = model, io_type == "io_stream"
        self.layers = list(layers_by_path(model).items())
        self.steps = {
            path: _step_of_quantizer(kernel.quantizer)
            for path, layer in self.layers
            if (kernel := kernel_of(layer)) is not None and not isinstance(kernel.quantizer, LearnedFormat)
        }
        self.steps |= {
            layer.name: _step_of_quantizer(layer.scale_quantizer)
            for _, layer in self.layers
            if hasattr(layer, "scale_quantizer")
        }
        self.reader = {id(layer): _only_reader(layer) for _, layer in self.layers if kernel_of(layer) is not None}
        if not self.reader:
            raise UnsupportedError("no layer has a kernel, so nothing is counted", model=model.name)

    def of_layers(self) -> dict[str, dict[str, Any]]:
        """Return path of the layer -> what it takes of each of `FEATURES`, as tensors of one number."""
        signals: dict[int, Signal] = {}
        self.quantized = {
            id(layer): kernel.quantized() for _, layer in self.layers if (kernel := kernel_of(layer)) is not None
        }
        self.folds: dict[int, Any] = {}
        taken: dict[str, dict[str, Any]] = {}
        for path, layer in self.layers:
            found: dict[str, Any] = {}
            signals[id(layer)] = self._of_layer(path, layer, self._read(layer, signals), found)
            if found:
                taken[path] = found
        return taken

    def luts(self) -> Any:
        """Return the estimate for the whole model, as a tensor."""
        factors = fitted()["lut"]
        return tf.add_n([factors[key] * of[key] for of in self.of_layers().values() for key in of if factors[key]])

    def kernels(self) -> list[Kernel]:
        """Return the kernels."""
        return [kernel for _, layer in self.layers if (kernel := kernel_of(layer)) is not None]

    def _read(self, layer: Any, signals: Mapping[int, Signal]) -> Signal:
        """Return the widest of what a layer reads."""
        nodes = layer._inbound_nodes  # Keras 2 has no public name for it
        sources = _listed(nodes[0].inbound_layers) if nodes else []
        read = [signals[id(source)] for source in sources if id(source) in signals]
        if not read:
            return Signal(float(DEFAULT_BITS), 1)
        bits = read[0].bits
        for other in read[1:]:
            bits = tf.maximum(tf.reduce_max(bits), tf.reduce_max(other.bits))
        return Signal(bits, sum(each.count for each in read))

    def _count(self, layer: Any) -> int:
        """Return how many numbers a layer gives that have hardware of their own: in a stream those of one position."""
        shape = _listed_shape(layer.output_shape)
        return int(shape[-1]) if self.stream and len(shape) > 2 else math.prod(int(size or 1) for size in shape[1:])

    def _of_layer(self, path: str, layer: Any, read: Signal, found: dict[str, Any]) -> Signal:
        kernel, given = kernel_of(layer), read
        count = self._count(layer)
        if kernel is not None:
            learned = isinstance(kernel.quantizer, LearnedFormat)
            step = kernel.quantizer.step_of(kernel) if learned else self.steps[path]
            given = self._of_kernel(layer, kernel.variable, step, read, count, found)
        else:
            given = Signal(read.bits, read.count if _keeps(layer) else count)
        if isinstance(layer, keras.layers.BatchNormalization):
            given = self._of_scale(layer, read, count, found)
        quantizer = _quantizer_of(layer)
        if quantizer is not None:
            given = _of_quantizer(quantizer, given, given.count, found)
        return given

    def _of_kernel(self, layer: Any, kernel: Any, step: Any, read: Signal, count: int, found: dict[str, Any]) -> Signal:
        """Count the adders of a dense layer or a convolution."""
        quantized = self.quantized[id(layer)]
        columns = int(quantized.shape[-1])
        alive = self._alive(layer, columns)
        copies = max(1, count // columns)
        codes = tf.abs(quantized) / step
        bits = tf.reduce_max(read.bits)
        digits, offset = self._folded(layer, codes, bits)
        sums = tf.nn.relu(tf.reduce_sum(digits, 0) + offset - 1)
        top = _log2(tf.reduce_sum(codes, 0))
        below = top - tf.stop_gradient(_log2(codes))
        total = tf.reduce_sum(sums * alive)
        found["sum_bits"] = copies * total * bits
        found["sums"] = copies * total
        found["spread"] = copies * tf.reduce_sum(digits * below * alive)
        found["ops"] = tf.constant(1.0)
        if self.stream and len(kernel.shape) > 2:
            pixels = math.prod(int(size) for size in kernel.shape[:-2]) - 1
            found["line_bits"] = pixels * int(_listed_shape(layer.input_shape)[-1]) * bits
        return Signal(bits + top, copies * tf.reduce_sum(alive))

    def _folded(self, layer: Any, codes: Any, bits: Any) -> tuple[Any, Any]:
        """Return the digits of a kernel, times the scale behind it if that takes fewer adders, and of the offset."""
        digits, norm = _digits(codes), _norm_behind(layer)
        offset = (
            tf.cast(layer.bias != 0, tf.float32)
            if getattr(layer, "bias", None) is not None
            else tf.zeros(codes.shape[-1])
        )
        if norm is None:
            return digits, offset
        scale, _ = norm._scale_and_offset(norm.moving_mean, norm.moving_variance)
        scale = tf.abs(scale) / self.steps[norm.name]
        folded = tf.stop_gradient(_digits(codes * scale))
        width, wider = (bits + _log2(tf.reduce_sum(sizes, 0)) for sizes in (codes, codes * scale))
        within = tf.reduce_sum(folded * wider)
        apart = tf.reduce_sum(digits * width) + tf.reduce_sum((_digits(scale) + 1) * wider + width)
        self.folds[id(norm)] = tf.cast(3 * within <= 4 * apart, tf.float32) if _is_rounded(norm) else tf.constant(1.0)
        more = self.folds[id(norm)] * (folded - tf.stop_gradient(digits))
        return digits + more, tf.ones(codes.shape[-1])

    def _alive(self, layer: Any, columns: int) -> Any:
        """Say for each neuron whether the one kernel that reads it has a weight for it: 1 or 0."""
        reader = self.reader[id(layer)]
        if reader is None or self.quantized[id(reader)].shape[0] % columns:
            return tf.ones(columns)
        read = tf.reduce_any(
            tf.reshape(self.quantized[id(reader)] != 0, (-1, columns, self.quantized[id(reader)].shape[-1])), (0, 2)
        )
        return tf.cast(read, tf.float32)

    def _of_scale(self, layer: Any, read: Signal, count: int, found: dict[str, Any]) -> Signal:
        """Count the products of a batch normalization; its offset is one more number in a sum."""
        folded = getattr(layer, "_scale_and_offset", None)
        if folded is None:
            factor = layer.gamma if layer.scale else tf.ones_like(layer.moving_variance)
            digits = tf.fill(factor.shape, float(DEFAULT_BITS) / 2)
        else:
            scale, _ = layer._scale_and_offset(layer.moving_mean, layer.moving_variance)
            digits = tf.stop_gradient(_digits(tf.abs(scale) / self.steps[layer.name]))
            digits *= 1 - self.folds.get(id(layer), 0.0)
        bits = read.bits if getattr(read.bits, "shape", ()) == digits.shape else tf.reduce_max(read.bits)
        copies = max(1, count // int(digits.shape[0]))
        found["scale_bits"] = copies * tf.reduce_sum(tf.nn.relu(digits - 1) * bits)
        return Signal(read.bits, read.count)


def _of_quantizer(quantizer: Any, read: Signal, count: int, found: dict[str, Any]) -> Signal:
    """Count what rounds and clamps, or a table of as many bits as an address has."""
    width = quantizer.width() if hasattr(quantizer, "width") else float(getattr(quantizer, "bits", DEFAULT_BITS))
    if type(quantizer).__name__ in CASTS:
        found["output_bits"] = count * width
        found["sum_width"] = count * tf.reduce_mean(read.bits)
    else:
        address = tf.minimum(tf.reduce_max(read.bits), float(3 * LUT_INPUTS))
        found["table_bits"] = count * width * tf.maximum(address - LUT_INPUTS + 1, 1.0)
    return Signal(width, count)


def _only_reader(layer: Any) -> Any:
    """Return the layer with a kernel that alone reads what a layer gives, through layers of one input that follow."""
    while len(layer._outbound_nodes) == 1:
        layer = layer._outbound_nodes[0].outbound_layer
        if kernel_of(layer) is not None:
            return None if hasattr(layer, "depthwise_kernel") else layer
        if isinstance(layer._inbound_nodes[0].inbound_layers, list):
            return None
    return None


def _keeps(layer: Any) -> bool:
    """Say whether a layer gives as many numbers as it reads."""
    return isinstance(layer, qkeras.QActivation | keras.layers.BatchNormalization | keras.layers.Activation)


def _quantizer_of(layer: Any) -> Any:
    """Return the quantizer at the end of a layer, if there is one."""
    if isinstance(layer, qkeras.QActivation):
        return layer.quantizer
    activation = getattr(layer, "activation", None)
    return activation if isinstance(activation, qkeras.BaseQuantizer) else None


def _norm_behind(layer: Any) -> Any:
    """Return the batch normalization with a quantized scale that alone reads a layer, if there is one."""
    readers = [node.outbound_layer for node in layer._outbound_nodes]
    return readers[0] if len(readers) == 1 and hasattr(readers[0], "scale_quantizer") else None


def _is_rounded(layer: Any) -> bool:
    """Say whether a quantizer alone reads a layer."""
    readers = [node.outbound_layer for node in layer._outbound_nodes]
    return len(readers) == 1 and _quantizer_of(readers[0]) is not None


def _step_of_quantizer(quantizer: Any) -> Any:
    """Return the power of two on whose multiples a quantizer of weights puts all values, or one for each channel."""
    if quantizer is None:
        return 2.0**-DEFAULT_BITS
    if isinstance(quantizer, quantized_grid):
        return quantizer.step()
    values = np.abs(np.asarray(quantizer(tf.constant(PROBES))))
    return float(2.0 ** math.floor(math.log2(values[values > 0].min(initial=1.0))))


def _digits(codes: Any) -> Any:
    """Return how many signed digits each code has, with the gradient of a smooth count."""
    whole = tf.cast(tf.round(tf.minimum(codes, 2.0**28)), tf.int32)
    exact = tf.cast(tf.raw_ops.PopulationCount(x=tf.bitwise.bitwise_xor(whole, 3 * whole)), tf.float32)
    smooth = tf.math.log1p(codes) / (3 * math.log(2))
    return smooth + tf.stop_gradient(exact - smooth)


def _log2(values: Any) -> Any:
    """Return log2, 0 for numbers below 1."""
    return tf.math.log(tf.maximum(values, 1.0)) / math.log(2)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _listed_shape(shape: Any) -> tuple[Any, ...]:
    return tuple(shape[0] if isinstance(shape, list) else shape)


def usual_io_type(model: Any) -> str:
    """Return how a model is usually built: in a stream if a kernel slides."""
    return IO_TYPES[any(hasattr(layer, "kernel_size") for layer in model._flatten_layers())]


def weight_luts(model: Any, io_type: str = IO_TYPES[0]) -> dict[str, float]:
    """Return path of each layer with a kernel -> LUTs that one of its non-zero weights takes, in the mean."""
    features = Features(model, io_type)
    taken = features.of_layers()
    found = {}
    for path, layer in features.layers:
        if kernel_of(layer) is not None:
            luts = sum(fitted()["lut"][key] * float(taken[path][key]) for key in ("sum_bits", "sums", "spread"))
            found[path] = max(luts, 1.0) / max(1, nonzero_weights(layer))
    return found


def nonzero_weights(layer: Any) -> int:
    """Return how many weights of a layer's kernel its quantizer leaves."""
    kernel = kernel_of(layer)
    return 0 if kernel is None else int(tf.math.count_nonzero(kernel.quantized()))
