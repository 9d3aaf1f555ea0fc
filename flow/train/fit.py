"""Training a spec: the quantized model and its float twin, pruned on the same schedule, then frozen and saved.

A float spec's model is trained as it is, nothing pruned and nothing quantized; one that a Python function makes, or
that has tables, has no float twin. A training that was interrupted, or killed, goes on behind its last whole epoch
(`flow.train.checkpoints`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset, held_out, load_dataset
from flow.data.inputs import fitted_format
from flow.data.own import load_own
from flow.errors import SpecError, UnsupportedError
from flow.files import locked, sweep
from flow.frontend.extraction import attempt, quantizes_its_input
from flow.frontend.trained import FLOAT_DIR, TrainedModel
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, quantize
from flow.progress import Announce, silent
from flow.train import load_tensorflow, quiet_warnings
from flow.train.artefacts import PARTIAL, artefact, configuration, fingerprint, joined, metrics, versions, write
from flow.train.build import build_float, build_plain, build_quantized, build_topology
from flow.train.checkpoints import DIRECTORY, training_key
from flow.train.distill import load_teacher
from flow.train.epochs import Course, History, Inputs, run_epochs, seeded
from flow.train.freeze import freeze, quantized_weights, same_outputs, sparsity
from flow.train.frontend import evaluate
from flow.train.heads import Goal, goals, is_softmax, only_or_all, shaped
from flow.train.learned import LearnedSteps
from flow.train.lut_cost import usual_io_type
from flow.train.patterns import WEIGHTS, counts_itself
from flow.train.pruning import Pruning
from flow.train.rewiring import Rewiring
from flow.train.spec import (
    REGRESSION,
    BitsSpec,
    FloatSpec,
    HeadSpec,
    ModelSpec,
    OwnSpec,
    Spec,
    ThresholdsSpec,
)

keras: Any = load_tensorflow().keras

FITTED_SAMPLES = 10_000
"""Of the training split, which thresholds are fitted to."""
PORT_BITS = 16
"""Of a net from a function that does not quantize its own input, where it is tried before it is trained."""


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """What a training makes.

    Attributes:
        models: subdirectory -> the model that goes there.
        histories: name of a model -> what was measured after each epoch.
    """

    models: Mapping[str, TrainedModel]
    histories: Mapping[str, History]


@quiet_warnings()
def train(
    spec: Spec,
    directory: Path,
    *,
    epochs: int | None = None,
    dataset: Dataset | None = None,
    tensorboard: Path | None = None,
    twin: bool = True,
    announce: Announce = silent,
) -> TrainedModel:
    """Train a model, and write `trained.json`, `trained.npz`, `history.csv`; the float twin's in `float/`.

    The same spec, data, versions and machine give the same model, bit for bit; so does a training that was interrupted
    when it is begun again with the same arguments. One process at a time trains into a directory: a second one waits.

    Args:
        spec: the model.
        directory: where to write. Before training has ended that is only what it goes on from, in `.training/`.
        epochs: instead of those of the spec; the pruning schedule is scaled with them.
        dataset: instead of the one that the spec names.
        tensorboard: directory of logs for TensorBoard.
        twin: whether the float twin of a quantized model is trained too.
        announce: called with what was reached, in words, after each epoch.

    Returns:
        The model as data, as written.

    Raises:
        SpecError: `epochs` is less than 1, a head is no output, or a function of the user failed.
        DataError: the data set does not fit the model.
        UnsupportedError: the quantized model has no exact integer form; it is not trained.
        ToolMissingError: the data set or a package is not to be had.
        OutputError: the directory cannot be written.

    Example:
        >>> train(load_spec("digits_mlp"), Path("out")).metrics["qkeras"]  # doctest: +SKIP
        0.9638888888888889
        >>> train(load_spec("mnist_autoencoder"), Path("out")).metrics  # doctest: +SKIP
        {'reconstruction_mse': 0.0098}
    """
    if epochs is not None and epochs < 1:
        raise SpecError(f"epochs is {epochs}", model=spec.name, remedy="expected at least 1")
    epochs, data = epochs or spec.train.epochs, dataset or load_samples(spec)
    if spec.train.validation:
        data = held_out(data, spec.train.validation)
    if isinstance(spec, ModelSpec):
        spec = _with_fitted_thresholds(_with_fitted_port(spec, data), data)
    net = getattr(spec, "net", None)
    course = _course(spec, epochs, data, [net.digest()] if net else [], directory, tensorboard, announce)
    if isinstance(spec, ModelSpec):
        shaped(data, spec.input.shape, spec.name)
    return _written(directory, course, lambda: _fit(spec, None, data, course, twin=twin))


def train_net(
    spec: OwnSpec | FloatSpec,
    model: Any,
    data: Dataset,
    directory: Path,
    *,
    tensorboard: Path | None = None,
    announce: Announce = silent,
) -> TrainedModel:
    """Train a Keras model in place, from the weights that it has; as `train`.

    Args:
        spec: what says how; it names no function.
        model: the Keras model.
        data: what it is trained on.
        directory, tensorboard, announce: as of `train`.

    Raises:
        FlowError: as `train`.
    """
    course = _course(spec, spec.train.epochs, data, [fingerprint(model)], directory, tensorboard, announce)
    return _written(directory, course, lambda: _fit(spec, model, data, course))


def _course(
    spec: Spec,
    epochs: int,
    data: Dataset,
    net: Sequence[str],
    directory: Path,
    tensorboard: Path | None,
    announce: Announce,
) -> Course:
    """Return how a spec is trained; `net` is the digest of what makes the model, if the spec does not say it."""
    teacher = load_teacher(spec.distill, data.preparation)
    return Course(
        settings=spec.train,
        epochs=epochs,
        kept=directory / DIRECTORY,
        key=training_key(spec, epochs, data, versions(), *net, *([teacher.digest] if teacher else [])),
        augment=spec.augment,
        teacher=teacher,
        tensorboard=tensorboard,
        announce=announce,
    )


def _written(directory: Path, course: Course, fit: Callable[[], _Made]) -> TrainedModel:
    """Train while nobody else trains into the directory, and write what that makes."""
    with locked(course.kept):
        sweep(directory, f"{PARTIAL}*", older_than_s=0)
        made = fit()
        models = {below: _with_teacher(model, course) for below, model in made.models.items()}
        write(models, made.histories, directory)
        shutil.rmtree(course.kept, ignore_errors=True)
    return models[""]


def _with_teacher(model: TrainedModel, course: Course) -> TrainedModel:
    """Return a model that says what it learned from."""
    if course.teacher is None:
        return model
    return replace(model, provenance={**model.provenance, "teacher": course.teacher.provenance()})


def _fit(spec: Spec, model: Any, data: Dataset, course: Course, twin: bool = True) -> _Made:
    if isinstance(spec, ModelSpec):
        return _fit_tables(spec, data, course) if spec.has_tables() else _fit_quantized(spec, data, course, twin)
    seeded(spec.train.seed, forget=model is None)
    if isinstance(spec, OwnSpec):
        return _fit_own(spec, model or own_model(spec), data, course)
    return _fit_float(spec, model or _float_model(spec, data), data, course)


def load_samples(spec: Spec) -> Dataset:
    """Return the data set of a spec.

    Raises:
        FlowError: as `load_dataset` and `flow.data.own.load_own`.
    """
    if isinstance(spec.dataset, str):
        return load_dataset(spec.dataset)
    heads = spec.learned() if isinstance(spec, ModelSpec) else spec.heads
    task = spec.task if isinstance(spec, FloatSpec) else ""
    regression = {head.labels or head.layer for head in heads if head.task == REGRESSION}
    return load_own(spec.dataset, regression | ({""} if task == REGRESSION else set()))


def _with_fitted_port(spec: ModelSpec, data: Dataset) -> ModelSpec:
    """Return a spec whose input has a format: one of a number of bits is fitted to the training split."""
    if isinstance(spec.input.format, FixedFormat):
        return spec
    fitted = fitted_format(data.x_train, spec.input.format)
    return replace(spec, input=replace(spec.input, format=fitted))


def _with_fitted_thresholds(spec: ModelSpec, data: Dataset) -> ModelSpec:
    """Return a spec whose thresholds are numbers: those that are fitted part the inputs above the least alike."""
    if not any(isinstance(layer, ThresholdsSpec) and layer.levels for layer in spec.layers):
        return spec
    fmt = spec.input.format
    assert isinstance(fmt, FixedFormat)
    values = quantize(data.x_train[:FITTED_SAMPLES], Cast(fmt, Rounding.RND_CONV, Overflow.SAT)) * fmt.step
    above = values[values > values.min()] if np.ptp(values) else values
    layers = []
    for layer in spec.layers:
        if isinstance(layer, ThresholdsSpec) and layer.levels:
            wanted = np.quantile(above, np.arange(1, layer.levels + 1) / (layer.levels + 1), method="lower") - fmt.step
            layer = replace(layer, at=tuple(float(at) for at in np.unique(wanted)), levels=0)
        layers.append(layer)
    return replace(spec, layers=tuple(layers))


# -- kinds of specs


def _float_model(spec: FloatSpec, data: Dataset) -> Any:
    return own_model(spec) if spec.net is not None else build_topology(spec, len(data.classes()))


def _fit_float(spec: FloatSpec, model: Any, data: Dataset, course: Course) -> _Made:
    heads = spec.heads or (HeadSpec(layer=model.output_names[0], task=spec.task),)
    inputs, learned = _prepared(model, heads, data, spec.name)
    history = run_epochs(model, "float", spec.name, course, learned, inputs)
    return _Made({"": _artefact(model, spec, data, inputs, learned, course.epochs)}, {"float": history})


def _fit_own(spec: OwnSpec, model: Any, data: Dataset, course: Course) -> _Made:
    heads = spec.heads or (HeadSpec(layer=model.output_names[0]),)
    inputs, learned = _prepared(model, heads, data, spec.name)
    check_exact(model, spec.name)
    history = run_epochs(
        model, "quantized", spec.name, course, learned, inputs, unfrozen=_unfrozen(spec.train.frozen_epochs, course)
    )
    trained = _artefact(model, spec, data, inputs, learned, course.epochs, level="qkeras")
    trained = replace(trained, metrics={**trained.metrics, "sparsity": sparsity(trained.weights)})
    return _Made({"": trained}, {"quantized": history})


def _fit_quantized(spec: ModelSpec, data: Dataset, course: Course, with_twin: bool) -> _Made:
    """Return the quantized model, and in `FLOAT_DIR` its float twin."""
    seeded(spec.train.seed)
    check_exact(build_quantized(spec), spec.name)
    name, budget = f"{spec.name} float twin", spec.prune is not None and spec.prune.luts is not None
    if with_twin and not budget:
        twin, twin_history = _fit_pruned(build_float, "float_twin", name, spec, data, course)
    model, history = _fit_pruned(build_quantized, "quantized", f"{spec.name} quantized", spec, data, course)
    if with_twin and budget:  # only the quantized model's LUTs are known: its twin has as many zeros
        twin, twin_history = _fit_pruned(build_float, "float_twin", name, _with_zeros_of(model, spec), data, course)
    inputs, learned = _prepared(model, spec.learned(), data, spec.name)
    x_test = inputs["test"]
    assert x_test is not None
    weights = freeze(model, x_test)
    if not with_twin:
        alone = _artefact(model, spec, data, inputs, learned, course.epochs, level="qkeras")
        measured = {**alone.metrics, "sparsity": sparsity(weights)}
        return _Made({"": replace(alone, weights=weights, metrics=measured)}, {"quantized": history})
    float_twin = _artefact(twin, spec, data, inputs, learned, course.epochs)
    trained = replace(
        float_twin,
        config=configuration(model),
        weights=weights,
        calibration_inputs=None,
        metrics={
            **joined(float_twin.metrics, metrics(model, learned, x_test, "qkeras")),
            "sparsity": sparsity(weights),
        },
    )
    return _Made({"": trained, FLOAT_DIR: float_twin}, {"float_twin": twin_history, "quantized": history})


def _fit_tables(spec: ModelSpec, data: Dataset, course: Course) -> _Made:
    """Return a model with tables: trained in a form of its own, written as plain layers that compute the same."""
    seeded(spec.train.seed)
    model = build_quantized(spec)
    inputs, learned = _prepared(model, spec.learned(), data, spec.name)
    x_train, x_test = inputs["train"], inputs["test"]
    assert x_train is not None and x_test is not None
    check_exact(_plain(spec, model, x_test), spec.name)
    targets = only_or_all([goal.train for goal in learned])
    history = run_epochs(
        model,
        "quantized",
        spec.name,
        course,
        learned,
        inputs,
        unfrozen=_unfrozen(spec.train.frozen_epochs, course),
        callbacks=[Rewiring(x_train, targets, course.epochs, spec.train.seed)],
    )
    plain = _plain(spec, model, x_test)
    trained = _artefact(plain, spec, data, inputs, learned, course.epochs, level="qkeras")
    trained = replace(trained, metrics={**trained.metrics, "sparsity": sparsity(trained.weights)})
    return _Made({"": trained}, {"quantized": history})


def _plain(spec: ModelSpec, model: Any, inputs: NDArray[np.float32]) -> Any:
    """Return a model with tables as plain layers, which give the same on some inputs."""
    plain = build_plain(spec, model)
    same_outputs(model, plain, inputs)
    return plain


def _fit_pruned(
    build: Callable[[ModelSpec], Any], name: str, title: str, spec: ModelSpec, data: Dataset, course: Course
) -> tuple[Any, History]:
    """Build, train and prune a model; return it, and what was measured."""
    seeded(spec.train.seed)
    model = build(spec)
    inputs, learned = _prepared(model, spec.learned(), data, spec.name)
    callbacks = _pruning(spec, course, usual_io_type(model))
    if build is build_quantized:
        callbacks += _learning(spec, model)
    history = run_epochs(
        model,
        name,
        title,
        course,
        learned,
        inputs,
        unfrozen=_unfrozen(spec.train.frozen_epochs, course),
        callbacks=callbacks,
    )
    return model, history


def _with_zeros_of(model: Any, spec: ModelSpec) -> ModelSpec:
    """Return a spec of which each kernel is pruned, by single weights, to the zeros that a model's kernel has."""
    assert spec.prune is not None
    layers, weights = [], quantized_weights(model)
    for layer in spec.layers:
        own: dict[str, Any] = {}
        if hasattr(layer, "sparsity"):
            (kernel,) = (array for key, array in weights[layer.name].items() if key.endswith("kernel"))
            own["sparsity"] = min(float(np.mean(kernel == 0)), 1 - 1 / kernel.size)
        layers.append(replace(layer, **own))
    return replace(spec, layers=tuple(layers), prune=replace(spec.prune, luts=None, pattern=WEIGHTS))


def _learning(spec: ModelSpec, model: Any) -> list[Any]:
    """Return the callbacks that learn steps of a quantized model."""
    names: dict[bool, list[str]] = {False: [], True: []}
    for layer in spec.layers:
        kernel, fmt = getattr(layer, "kernel", None), getattr(layer, "format", None)
        if isinstance(kernel, BitsSpec):
            names[kernel.per_channel].append(layer.name)
        elif isinstance(fmt, int):
            names[False].append(layer.name)
    return [LearnedSteps(model, layers=some, per_channel=each) for each, some in names.items() if some]


def _pruning(spec: ModelSpec, course: Course, io_type: str) -> list[Any]:
    """Return the callback that prunes a model of a spec, if any layer is pruned."""
    layers = {layer.name: sparsity for layer in spec.layers if (sparsity := getattr(layer, "sparsity", 0.0))}
    if spec.prune is None or not (layers or counts_itself(spec.prune.pattern) or spec.prune.luts):
        return []
    prune, scale = spec.prune, course.epochs / spec.train.epochs
    return [
        Pruning(
            pattern=prune.pattern,
            layers=layers or None,
            begin_epoch=prune.begin_epoch * scale,
            end_epoch=prune.end_epoch * scale,
            allocate=prune.allocate,
            regrow=prune.regrow,
            luts=prune.luts,
            io_type=io_type,
        )
    ]


def _unfrozen(frozen: int, course: Course) -> int:
    """Return how many epochs batch normalizations use the statistics of their batch."""
    return course.epochs - frozen * course.epochs // course.settings.epochs


# -- models of the user


def own_model(spec: OwnSpec | FloatSpec) -> Any:
    """Return the Keras model that a function of the user makes, or that is in a file.

    Raises:
        SpecError: it failed, or returned something else.
    """
    assert spec.net is not None
    model = spec.net.call()
    if not isinstance(model, keras.Model) or not hasattr(model, "output_names"):
        what = f"'{spec.net.name}' gives {type(model).__name__}, no Keras model"
        remedy = "return a functional or sequential model of tf_keras that is built (`from flow.train import ...`)"
        raise SpecError(what, model=spec.name, remedy=remedy)
    if len(model.inputs) != 1:
        what = f"'{spec.net.name}' gives a model with {len(model.inputs)} inputs"
        raise SpecError(what, model=spec.name, remedy="give it one, and slice it")
    return model


def check_exact(model: Any, name: str) -> None:
    """Refuse a quantized model that has no exact integer form, before it is trained.

    Raises:
        UnsupportedError: it has none.
    """
    config, weights = configuration(model), quantized_weights(model)
    trained = TrainedModel(name=name, class_name=type(model).__name__, config=config, weights=weights)
    port = None if quantizes_its_input(trained) else FixedFormat(True, 1, PORT_BITS - 2)
    made = attempt(trained, port, softmax=None, evaluate=evaluate)
    for refusal in made.refusals:
        if isinstance(refusal, UnsupportedError):
            raise refusal.at(model=name)


def _prepared(model: Any, heads: Sequence[HeadSpec], data: Dataset, name: str) -> tuple[Inputs, tuple[Goal, ...]]:
    """Return the inputs in the shape of a model, and what its outputs learn, in the order of the outputs."""
    inputs = shaped(data, tuple(model.input_shape[1:]), name)
    outputs = list(model.output_names)
    shapes = dict(zip(outputs, (tuple(tensor.shape[1:]) for tensor in model.outputs), strict=True))
    softmax = [output for output in outputs if is_softmax(model, output)]
    return inputs, goals(heads, data, inputs, shapes, model=name, softmax=softmax)


def _artefact(
    model: Any, spec: Spec, data: Dataset, inputs: Inputs, learned: Sequence[Goal], epochs: int, level: str = "float"
) -> TrainedModel:
    x_train, x_test = inputs["train"], inputs["test"]
    assert x_train is not None and x_test is not None
    return artefact(model, spec, data, x_test, x_train, learned, epochs, level=level)
