"""Distillation: what a teacher says of a sample is learned beside its labels (Hinton et al., arXiv:1503.02531).

The teacher sees each batch as the net sees it, behind any augmentation, and does not learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.data.own import NONE
from flow.errors import SpecError, at
from flow.frontend.trained import TRAINED_JSON, load_trained
from flow.train import load_tensorflow
from flow.train.artefacts import fingerprint
from flow.train.freeze import keras_model
from flow.train.heads import Goal, is_softmax
from flow.train.reader import read_keras
from flow.train.spec import CLASSIFICATION, DistillSpec, find_model_dir

tf: Any
keras: Any
tf, keras, _ = load_tensorflow()

LEAST = 1e-7
"""Of a probability, before its logarithm is taken; as of Keras' losses."""


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A Keras model that is learned from, and how.

    Attributes:
        preparation: what was made of the values that it learned from, as `Dataset.preparation`; None if nobody says.
    """

    model: Any
    spec: DistillSpec
    digest: str
    preparation: Mapping[str, Any] | None = None

    def provenance(self) -> dict[str, Any]:
        """Return what a model that was taught keeps of it."""
        settings: dict[str, Any] = {"temperature": self.spec.temperature, "weight": self.spec.weight}
        if self.spec.hidden:
            settings |= {"hidden": dict(self.spec.hidden), "hidden_weight": self.spec.hidden_weight}
        return {"name": self.model.name, "digest": self.digest, **settings}

    @contextmanager
    def teaches(self, model: Any, goals: Sequence[Goal]) -> Iterator[None]:
        """Have the loss of a model, compiled within, hold what the teacher says of each output.

        Raises:
            SpecError: inputs or outputs of the teacher do not fit.
        """
        terms, takes = _terms(model, goals, self), self.model.input_shape[1:]
        here = _with_hidden(model, self.spec.hidden, "net")
        there = _with_hidden(self.model, self.spec.hidden.values(), "teacher")
        found: list[Any] = []

        def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
            outputs, found[:] = here(inputs, training=training, mask=mask)
            return outputs

        def compute_loss(x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
            said, expected = there(tf.reshape(x, (-1, *takes)), training=False)
            said = tf.nest.flatten(said)
            learned = [term(said, output) for term, output in zip(terms, tf.nest.flatten(y_pred), strict=True)]
            learned += [self.spec.hidden_weight * _distance(*pair) for pair in zip(found, expected, strict=True)]
            return model.compiled_loss(y, y_pred, sample_weight, regularization_losses=[*model.losses, *learned])

        model.call, model.compute_loss = call, compute_loss
        try:
            yield
        finally:
            del model.call, model.compute_loss
            model.train_function = model.test_function = None  # they have the teacher in them


def load_teacher(spec: DistillSpec | None, preparation: Mapping[str, Any]) -> Teacher | None:
    """Return the teacher: the model itself, a Keras file, the directory of a trained model, or a model by its name.

    Args:
        spec: what names it.
        preparation: what was made of the samples that it is to teach.

    Raises:
        SpecError: it is no model of tf-keras with one input, or learned from samples that are scaled otherwise.
        ModelFileError: the file is damaged, holds code, or the model is not trained.
        UnsupportedError: its file has a layer that we do not know.
    """
    if spec is None:
        return None
    with at(field="teacher"):
        model, learned_from = _read(spec.teacher)
        if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
            what = f"expected a built model of tf_keras with one input, not an object of class {type(model).__name__}"
            raise SpecError(what, remedy="save a model of Keras 3 as .keras and give the file")
        if learned_from is not None and _scaling(learned_from) != _scaling(preparation):
            there, own = (_scaling(each)[0] for each in (learned_from, preparation))
            what = f"the teacher learned from samples scaled by '{there}', the net takes them scaled by '{own}'"
            what += ", and fitted to other samples" if there == own else ""
            raise SpecError(what, remedy="train both with the same scaling, split and seed of the data")
        return Teacher(model, spec, fingerprint(model), learned_from)


def _scaling(preparation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return how samples are scaled: in words and in numbers."""
    scaling = preparation.get("scaling", NONE)
    return (NONE,) if scaling == NONE else (scaling, preparation["offset"], preparation["divisor"])


def _read(teacher: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """Return the model of a teacher, and what was made of the samples that it learned from if that is known."""
    if not isinstance(teacher, str | Path):
        return teacher, None
    path = Path(teacher)
    if path.is_file() or (path / "saved_model.pb").exists():
        return read_keras(path).keras, None
    directory = path if path.is_dir() else find_model_dir(str(teacher))
    if not (directory / TRAINED_JSON).exists():
        raise SpecError(f"{directory} holds no trained model", remedy=f"run 'flow train {teacher}', or name a file")
    trained = load_trained(directory)
    return keras_model(trained), trained.provenance.get("preparation", {})


def _with_hidden(model: Any, names: Iterable[str], whose: str) -> Any:
    """Return a model of the same layers that gives what it gave, and the outputs of some layers."""
    tensors = []
    for name in names:
        layer = next((layer for layer in model.layers if layer.name == name), None)
        if layer is None or len(layer.inbound_nodes) != 1:
            what = (
                f"the {whose} has no layer '{name}'" if layer is None else f"layer '{name}' is applied more than once"
            )
            within = ", ".join(layer.name for layer in model.layers)
            raise SpecError(f"distill.hidden: {what}", remedy=f"name layers of {within}", named=name)
        tensors.append(layer.output)
    return keras.Model(model.inputs, (model.output, tensors))


def _distance(found: Any, expected: Any) -> Any:
    """Return how differently two layers tell the samples of a batch apart, whatever their widths (arXiv:1907.09682).

    Each sample's products with all samples of the batch, scaled to length one, are held against each other: the squared
    distance, the mean over samples.
    """

    def alike(values: Any) -> Any:
        rows = tf.reshape(values, (tf.shape(values)[0], -1))
        return tf.math.l2_normalize(tf.matmul(rows, rows, transpose_b=True), axis=1)

    return tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(alike(found), alike(expected)), axis=1))


def _terms(model: Any, goals: Sequence[Goal], teacher: Teacher) -> list[Any]:
    """Return for each output the function of what a teacher and the model say that is added to the loss."""
    own, there = tuple(model.input_shape[1:]), tuple(teacher.model.input_shape[1:])
    if None in there or np.prod(own) != np.prod(there):
        raise SpecError(
            f"the teacher takes samples of shape {there}, the net {own}", remedy="give one that takes these"
        )
    names = list(teacher.model.output_names)
    wanted = [goal.name for goal in goals]
    if len(names) != len(wanted) or (len(names) > 1 and set(names) != set(wanted)):
        what = f"the teacher has outputs {', '.join(names)}, the net {', '.join(wanted)}"
        raise SpecError(what, remedy="give one with outputs of these names")
    terms = []
    for goal, output in zip(goals, model.outputs, strict=True):
        at_teacher = names.index(goal.name) if len(names) > 1 else 0
        shape, expected = (tuple(tensor.shape[1:]) for tensor in (teacher.model.outputs[at_teacher], output))
        if shape != expected:
            what = f"output '{names[at_teacher]}' of the teacher has shape {shape}, that of the net {expected}"
            raise SpecError(what, remedy="give a teacher of the same classes or targets")
        terms.append(_term(goal, teacher, at_teacher))
    return terms


def _term(goal: Goal, teacher: Teacher, at_teacher: int) -> Any:
    spec, weight = teacher.spec, goal.head.weight * teacher.spec.weight
    if goal.head.task != CLASSIFICATION:
        loss = keras.losses.get(goal.head.loss)
        return lambda said, output: weight * tf.reduce_mean(loss(said[at_teacher], output))
    divergence = keras.losses.KLDivergence()
    ends_in_softmax = is_softmax(teacher.model, teacher.model.output_names[at_teacher])

    def softened(values: Any, softmax: bool) -> Any:
        logits = tf.math.log(tf.maximum(values, LEAST)) if softmax else values
        return tf.nn.softmax(logits / spec.temperature)

    def term(said: Sequence[Any], output: Any) -> Any:
        expected, found = softened(said[at_teacher], ends_in_softmax), softened(output, goal.softmax)
        return weight * spec.temperature**2 * divergence(expected, found)  # so gradients keep their size

    return term
