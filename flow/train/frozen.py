"""Frozen scales: what `quantized_bits` with alpha 'auto' or 'auto_po2' found in some samples, kept for all inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import at
from flow.findings import Hit
from flow.frontend.keras.scales import frozen, of_data
from flow.frontend.trained import TrainedModel
from flow.train import keras_errors, load_tensorflow, quiet_warnings
from flow.train.freeze import layers_by_path

tf: Any = load_tensorflow().tf

MOST_SAMPLES = 1024
"""Samples of one batch: a scale is that of all of them together."""


@quiet_warnings()
def freeze_scales(trained: TrainedModel, model: Any, samples: NDArray[np.floating[Any]]) -> TrainedModel:
    """Return a model whose activations are scaled by the powers of two that they found in samples, and says so.

    With alpha 'auto' that is the next power of two: other factors are on no grid.

    Args:
        trained: the model.
        model: the same as a Keras model.
        samples: (samples, *shape); of several inputs, their values in a row.
    """
    asking = dict(of_data(trained.config))
    batch, layers = samples[:MOST_SAMPLES], layers_by_path(model)
    shapes = list(trained.input_shapes().values())
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    parts = np.split(batch.reshape(len(batch), -1), ends, axis=1)
    inputs = [tf.constant(part.reshape(-1, *shape), tf.float32) for part, shape in zip(parts, shapes, strict=True)]
    with keras_errors("QKeras itself cannot run it"):
        model(inputs if len(inputs) > 1 else inputs[0], training=False)
    scales: dict[str, Any] = {}
    warnings = []
    for path, quantizer in asking.items():
        with at(layer=path):
            scale = _power(np.asarray(getattr(layers[path], "quantizer", layers[path].activation).scale, np.float64))
        scales[path] = scale.tolist()
        low, high = (int(np.log2(end)) for end in (scale.min(), scale.max()))
        found = f"2**{low}" if low == high else f"2**{low} to 2**{high}"
        what = f"QKeras scales its quantized_bits by each batch (alpha={quantizer.args['alpha']!r})"
        reason = f"layer '{path}': {what}; here by {found}, frozen at the first {len(batch)} samples"
        warnings.append(Hit(path, reason, "train with alpha=1 for a quantizer that is the same on all inputs"))
    config = frozen(trained.config, scales)
    return replace(trained, config=config, warnings=(*trained.warnings, *warnings))


def _power(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the next power of two of each scale; the largest of all for a channel that holds nothing but zeros."""
    exponents = np.ceil(np.log2(np.maximum(scale, 2.0**-100)) - 2.0**-20)
    silent = exponents < exponents.max() - 20
    return np.asarray(2.0 ** np.where(silent, exponents.max(), exponents))
