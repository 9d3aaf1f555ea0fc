"""The epochs of a training: callbacks, randomness, and what they leave of each epoch.

All that is drawn at random comes from a seed: the weights, the order of samples, and what layers of the net or of the
augmentation draw, whose generators have a state that checkpoints keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import SpecError, ToolMissingError, UnsupportedError
from flow.progress import Announce
from flow.train import keras_errors, load_tensorflow
from flow.train.checkpoints import Checkpoint, GoOn, by_name
from flow.train.heads import Goal, only_or_all
from flow.train.kernels import kernels_of
from flow.train.lut_cost import Features, usual_io_type
from flow.train.spec import AugmentSpec, FloatTrainSpec

if TYPE_CHECKING:
    from flow.train.distill import Teacher

tf: Any
keras: Any
tf, keras, _ = load_tensorflow()

Inputs = Mapping[str, NDArray[np.float32] | None]
History = dict[str, list[float]]
"""What was measured -> its value after each epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How the models of a training are trained.

    Attributes:
        settings: batches, learning rate and seed.
        epochs: passes over the training split.
        kept: directory of checkpoints.
        key: what is trained on what.
        augment: layers that change samples in training.
        teacher: what is learned from beside the labels, or None.
        tensorboard: directory of logs for TensorBoard, or None.
        announce: told of each epoch.
    """

    settings: FloatTrainSpec
    epochs: int
    kept: Path
    key: str
    augment: tuple[AugmentSpec, ...] = ()
    teacher: Teacher | None = None
    tensorboard: Path | None = None
    announce: Announce

    def checkpoint(self, name: str) -> Checkpoint:
        """Return where one of the models stood."""
        return Checkpoint(path=self.kept / f"{name}.npz", key=self.key)


def seeded(seed: int, *, forget: bool = True) -> None:
    """Make what comes next the same each time: random numbers and the order of sums; `forget` all models before."""
    if forget:
        keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def run_epochs(
    model: Any,
    name: str,
    title: str,
    course: Course,
    goals: Sequence[Goal],
    inputs: Inputs,
    *,
    unfrozen: int | None = None,
    callbacks: Sequence[Any] = (),
) -> History:
    """Train a model, from where it stood.

    Args:
        model: a Keras model, changed in place; what it was compiled with is replaced.
        name: of its checkpoint.
        title: what announcements call it.
        course: how it is trained.
        goals: what its outputs learn.
        inputs: (samples, *shape) of each split.
        unfrozen: how many epochs batch normalizations use the statistics of their batch; None for all.
        callbacks: further ones, before those that measure; checkpoints hold the variable `state` of one that has it.

    Returns:
        What was measured after each epoch, also of those before an interruption.

    Raises:
        OutputError: a checkpoint cannot be written.
    """
    epochs, checkpoint = course.epochs, course.checkpoint(name)
    x = inputs["train"]
    assert x is not None
    optimizer = cosine_adam(course.settings, epochs * steps_per_epoch(course.settings, len(x)))
    changes = [_augmentation(each) for each in course.augment]
    augment(model, changes)
    teacher = course.teacher
    teaching = nullcontext() if teacher is None else teacher.teaches(model, goals)
    of_labels = 1.0 if teacher is None else 1 - teacher.spec.weight
    with own_randomness([*model._flatten_layers(), *changes], course.settings.seed) as randomness, teaching:
        states = [*randomness, *(each for each in callbacks if hasattr(each, "state"))]
        going_on = GoOn(checkpoint, states)
        done = going_on.done
        followed = [
            *callbacks,
            Measured(done),
            told(title, epochs, done, course.announce),
            *_logs(course, name, done),
            going_on,
        ]
        options = {"batch_size": course.settings.batch_size, "callbacks": followed, "verbose": 0}
        if any(goal.weights is not None for goal in goals):
            ones = np.ones(len(x), np.float32)
            weights = [ones if goal.weights is None else goal.weights for goal in goals]
            options["sample_weight"] = only_or_all(weights)
        if inputs["valid"] is not None:
            valid = only_or_all([goal.valid for goal in goals])
            options |= {
                "validation_data": (inputs["valid"], valid),
                "validation_freq": list(range(done + 1, epochs + 1)),
            }
        unfrozen = epochs if unfrozen is None else unfrozen
        for first, last in ((0, unfrozen), (unfrozen, epochs)):
            if first == last:
                continue
            for layer in model._flatten_layers():
                if hasattr(layer, "use_moving_statistics"):
                    layer.use_moving_statistics = first > 0
            model.compile(
                optimizer,
                only_or_all([goal.loss() for goal in goals]),
                metrics=only_or_all([[goal.measure()] for goal in goals]),
                loss_weights=[goal.head.weight * of_labels for goal in goals],
            )
            if done < epochs:
                targets = only_or_all([goal.train for goal in goals])
                model.fit(x, targets, initial_epoch=first, epochs=last, **options)
        if done == epochs:
            steps = steps_per_epoch(course.settings, len(x))
            before = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=steps)
            before.on_train_begin()  # formats that are learned are variables, and stand in the checkpoint
            checkpoint.restore(model, states)
            before.on_train_end()
    return going_on.history


def steps_per_epoch(settings: FloatTrainSpec, samples: int) -> int:
    """Return how many batches the training split makes."""
    return -(-samples // settings.batch_size)


def cosine_adam(settings: FloatTrainSpec, steps: int) -> Any:
    """Return Adam with a learning rate that falls to zero over so many steps."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps))


# -- callbacks

MANY = 100
"""From here on a figure is said without fractions."""


class Measured(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures how many weights are zeros, as the quantizers make them, and of a quantized model its estimated LUTs."""

    def __init__(self, done: int) -> None:
        super().__init__()
        self.done = done

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch >= self.done and logs is not None:
            logs["zeros"] = fraction_of_zeros(self.model)
            logs |= _luts(self.model)


def _luts(model: Any) -> dict[str, float]:
    """Return the estimated LUTs of a quantized model's Verilog; nothing where they are not estimated."""
    layers = list(model._flatten_layers())
    if not any(getattr(layer, "kernel_quantizer_internal", None) is not None for layer in layers):
        return {}
    with suppress(UnsupportedError):
        return {"luts": float(Features(model, usual_io_type(model)).luts())}
    return {}


def fraction_of_zeros(model: Any) -> float:
    """Return the fraction of zeros over all kernels, as their quantizers make them; 0 of a model without any."""
    zeros = total = 0
    for layer in model._flatten_layers():
        for kernel in kernels_of(layer):
            held = np.asarray(kernel.quantized())
            zeros, total = zeros + int(np.count_nonzero(held == 0)), total + held.size
    return zeros / max(1, total)


def told(title: str, epochs: int, done: int, announce: Announce) -> Any:
    """Return the callback that announces each epoch, but for those that are `done`."""

    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        if epoch >= done:
            found = by_name(logs).items()
            measured = ", ".join(f"{name} {value:.{3 * (value < MANY)}f}" for name, value in found)
            announce(f"{title}: {measured}, epochs", epoch + 1, epochs)

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


class Logs(keras.callbacks.TensorBoard):  # type: ignore[misc]
    """Writes logs for TensorBoard, but for epochs that are done."""

    def __init__(self, directory: Path, done: int) -> None:
        super().__init__(str(directory), write_graph=False)
        self.done = done

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch >= self.done:
            super().on_epoch_end(epoch, logs)


def _logs(course: Course, name: str, done: int) -> list[Any]:
    if course.tensorboard is None:
        return []
    if find_spec("tensorboard") is None:
        raise ToolMissingError("package 'tensorboard' is not installed", remedy="run: pip install tensorboard")
    return [Logs(course.tensorboard / name, done)]


# -- randomness


def _augmentation(spec: AugmentSpec) -> Any:
    with keras_errors(f"augmentation {spec.layer}", SpecError):
        return getattr(keras.layers, spec.layer)(**dict(spec.arguments))


def augment(model: Any, layers: Sequence[Any]) -> None:
    """Have a model see its training samples as layers change them; what it computes stays."""
    if not layers:
        return
    plain = model.train_step

    def step(batch: Any) -> Any:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        for layer in layers:
            x = layer(x, training=True)
        return plain((x, y) if weights is None else (x, y, weights))

    model.train_step = step


@contextmanager
def own_randomness(layers: Sequence[Any], seed: int) -> Iterator[list[Any]]:
    """Give layers that draw at random generators whose state can be kept; yield those generators."""
    drawing = [layer for layer in layers if hasattr(layer, "_random_generator")]
    before = [layer._random_generator for layer in drawing]
    for number, layer in enumerate(drawing):
        layer._random_generator = type(before[number])(seed + number, rng_type="stateful")
        layer._random_generator._maybe_init()
    try:
        yield [layer._random_generator._generator for layer in drawing]
    finally:
        for layer, generator in zip(drawing, before, strict=True):
            layer._random_generator = generator
