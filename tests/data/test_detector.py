"""A small detector from KITTI's files to its mean average precision: in float32, and from an integer feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="pillow is not installed")

from fixtures_kitti import HEIGHT, WIDTH, generate
from float_models import as_data

from flow.data.detection import (
    DetectionHead,
    Detections,
    decode,
    decode_values,
    encode,
    mean_average_precision,
    suppress,
)
from flow.data.kitti import IOU_THRESHOLDS, KittiImages, load_kitti
from flow.errors import ToolMissingError
from flow.ir.fixed import FixedFormat
from flow.ir.fixed import quantize as quantize_values
from flow.ir.reference import run_output
from flow.quantization.driver import quantize
from flow.quantization.settings import QuantSettings
from flow.train import load_tensorflow, quiet_warnings

try:
    tf, keras = load_tensorflow().tf, load_tensorflow().keras
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

CLASSES = ("Car", "Pedestrian")
HEAD = DetectionHead(classes=CLASSES, cell=(16, 16), threshold=-2.0)
GRID = (HEIGHT // 16, WIDTH // 16)
EPOCHS, BATCH_SIZE = 16, 20


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A trained Keras model and what it was trained on and is tested on; inputs are k/256, so 8 bits hold them."""

    model: Any
    train_inputs: np.ndarray
    test_inputs: np.ndarray
    test: KittiImages

    def score(self, said: tuple[Detections, ...]) -> float:
        """Return the mean average precision of what was said of the test images."""
        thresholds = [IOU_THRESHOLDS[name] for name in CLASSES]
        kept = [suppress(detections) for detections in said]
        return mean_average_precision(kept, self.test.truths("moderate", CLASSES), thresholds)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    train, test = (
        load_kitti(generate(tmp_path_factory.mktemp(name), count, seed), height=HEIGHT, width=WIDTH, style="raw")
        for name, count, seed in (("train", 160, 1), ("test", 60, 2))
    )
    targets = np.stack([encode(truth, HEAD, GRID) for truth in train.truths("moderate", CLASSES)])
    with quiet_warnings():
        keras.backend.clear_session()
        keras.utils.set_random_seed(1)
        tf.config.experimental.enable_op_determinism()
        model = network()
        steps = EPOCHS * len(targets) // BATCH_SIZE
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps)), loss)
        model.fit(train.inputs / 256, targets, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    return Detector(model=model, train_inputs=train.inputs / 256, test_inputs=test.inputs / 256, test=test)


def network() -> Any:
    """Return a fully convolutional net: four halvings, then one more look around and a 1x1 convolution."""
    first = tensor = keras.Input((HEIGHT, WIDTH, 3), name="image")
    for number, (filters, stride) in enumerate(((8, 2), (16, 2), (24, 2), (32, 2), (32, 1)), 1):
        conv = keras.layers.Conv2D(filters, 3, stride, "same", use_bias=False, name=f"conv{number}")
        tensor = keras.layers.BatchNormalization(momentum=0.9, name=f"bn{number}")(conv(tensor))
        tensor = keras.layers.ReLU(name=f"relu{number}")(tensor)
    return keras.Model(first, keras.layers.Conv2D(HEAD.channels, 1, name="head")(tensor), name="detector")


def loss(targets: Any, said: Any) -> Any:
    """Return the loss of a batch: objectness everywhere but where it is ignored, the rest where objects are."""
    there, counts = tf.cast(targets[..., 0] > 0, tf.float32), tf.cast(targets[..., 0] >= 0, tf.float32)
    objectness = tf.nn.sigmoid_cross_entropy_with_logits(there, said[..., 0])
    classes = tf.nn.softmax_cross_entropy_with_logits(targets[..., 1:-4], said[..., 1:-4])
    boxes = tf.reduce_sum(tf.abs(targets[..., -4:] - said[..., -4:]), axis=-1)
    objects = tf.reduce_sum(there)
    return tf.reduce_sum(counts * objectness) / objects + tf.reduce_sum(there * (classes + 2 * boxes)) / objects


def test_the_float_network_finds_the_objects(detector: Detector) -> None:
    values = detector.model.predict(detector.test_inputs, verbose=0)
    assert detector.score(decode_values(values, HEAD)) > 0.8
    assert detector.score(tuple(decode_values(np.zeros_like(values), HEAD))) < 0.1  # a box in each cell


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        (QuantSettings(), 0.02),
        (QuantSettings(bits=6, bias_correction=True, weight_rounding="reconstruct"), 0.15),  # boxes want 70 % overlap
    ],
)
def test_the_integer_feature_map_of_the_quantized_network_finds_them_too(
    detector: Detector, settings: QuantSettings, lost: float
) -> None:
    found = quantize(as_data(detector.model), detector.train_inputs[:64], settings)
    port, last = found.lowered.inputs[0], found.lowered.output
    codes = run_output(found.lowered, quantize_values(detector.test_inputs, port.cast))
    assert codes.dtype == np.int64 and codes.shape == (60, *GRID, HEAD.channels)
    assert port.format == FixedFormat(False, 0, 8)  # what the images are, nothing rounded
    values = detector.model.predict(detector.test_inputs, verbose=0)
    found_by_codes = detector.score(decode(codes, last.format, HEAD))
    assert found_by_codes > detector.score(decode_values(values, HEAD)) - lost
