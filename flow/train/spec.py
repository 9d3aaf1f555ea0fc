"""Model specs: what to train, as data. `load_spec` reads `spec.toml`; docs of every key are in models/README.md.

A spec names its layers one by one, in order. Formats are written as in `flow.ir.fixed.FixedFormat`
(`{ signed = true, int_bits = 2, frac_bits = 5 }`), exponent ranges as `{ min_exponent = -6, max_exponent = 0 }`.
A spec with a `[float]` table is of a float model: it names a topology of `flow.train.build` and no formats.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import FlowError, SpecError
from flow.ir.fixed import FixedFormat
from flow.toml_table import NAME, Table, read_toml

SPEC_TOML = "spec.toml"
MAX_EPOCHS = 9999
DATASETS = ("digits", "fashion_mnist", "mnist", "lhc_jets")
TASKS = ("classification", "reconstruction")
TASK_OF_TOPOLOGY = {"resnet8": "classification", "mobile": "classification", "autoencoder": "reconstruction"}
RANK_OF_TOPOLOGY = {"resnet8": 3, "mobile": 3, "autoencoder": 1}
"""How many axes a sample has: (height, width, channels) or (features,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Po2Spec:
    """A set of power-of-two values: 0 and plus/minus `2**e` for `min_exponent <= e <= max_exponent`."""

    min_exponent: int
    max_exponent: int

    def __post_init__(self) -> None:
        if not -30 <= self.min_exponent <= self.max_exponent <= 30:
            raise SpecError(f"exponents {self.min_exponent}..{self.max_exponent} are not a range within -30..30")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The quantizer that opens the model: its layer name, the shape of one sample and the format."""

    name: str
    shape: tuple[int, ...]
    format: FixedFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSpec:
    """A dense layer. `bias` is its format, or None for no bias; `sparsity` the fraction of weights pruned to zero."""

    name: str
    units: int
    kernel: Po2Spec
    bias: FixedFormat | None
    sparsity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2DSpec:
    """A 2-D convolution; `padding` is "valid" or "same"."""

    name: str
    filters: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    kernel: Po2Spec
    bias: FixedFormat | None
    sparsity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNormSpec:
    """A batch normalization; a `Po2Spec` scale is a shift, a `FixedFormat` scale a multiplier."""

    name: str
    scale: Po2Spec | FixedFormat
    offset: FixedFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ReluSpec:
    """A ReLU that rounds half to even and clamps to an unsigned format."""

    name: str
    format: FixedFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool2DSpec:
    """Max pooling over windows of `size` that do not overlap."""

    name: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenSpec:
    """Flatten an image to a vector."""

    name: str


LayerSpec = DenseSpec | Conv2DSpec | BatchNormSpec | ReluSpec | MaxPool2DSpec | FlattenSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSpec:
    """When to prune: sparsity grows from 0 to each layer's own between two epochs, and is held from then on."""

    begin_epoch: int
    end_epoch: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin_epoch < self.end_epoch:
            raise SpecError(f"begin_epoch {self.begin_epoch} is not before end_epoch {self.end_epoch}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatTrainSpec:
    """How to train: Adam with a cosine learning rate.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples per step.
        learning_rate: at the first step; it falls to zero at the last one.
        seed: of the weights, the shuffling, the split and the calibration samples.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec(FloatTrainSpec):
    """How to train a quantized model; `frozen_epochs` last ones use batch normalization's moving statistics."""

    frozen_epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model and how to train it."""

    name: str
    description: str
    dataset: str
    input: InputSpec
    layers: tuple[LayerSpec, ...]
    prune: PruneSpec
    train: TrainSpec

    def __post_init__(self) -> None:
        names = [self.input.name, *(layer.name for layer in self.layers)]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"layer name '{name}' is used twice", remedy="give each layer its own")
        if self.prune.end_epoch > self.train.epochs:
            raise SpecError(f"prune.end_epoch {self.prune.end_epoch} is after train.epochs {self.train.epochs}")
        if self.train.frozen_epochs >= self.train.epochs:
            raise SpecError(f"train.frozen_epochs {self.train.frozen_epochs} must be less than train.epochs")
        shape = self.input.shape
        for layer in self.layers:
            shape = _output_shape(layer, shape)
        if len(shape) != 1 or not isinstance(self.layers[-1], (DenseSpec, BatchNormSpec)):
            raise SpecError("the last layer must be dense, or batch_norm after dense, with one unit per class")


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatSpec:
    """A float model, to be quantized after training, and how to train it.

    Attributes:
        name, description, dataset: as of a `ModelSpec`.
        input_shape: of one sample.
        topology: a key of `flow.train.build.TOPOLOGIES`.
        task: "classification" (logits, one per class) or "reconstruction" (the input again).
        train: how to train it.
    """

    name: str
    description: str
    dataset: str
    input_shape: tuple[int, ...]
    topology: str
    task: str
    train: FloatTrainSpec

    def __post_init__(self) -> None:
        unfit = f"does not go with topology '{self.topology}'"
        if self.task != (task := TASK_OF_TOPOLOGY[self.topology]):
            raise SpecError(f"float.task '{self.task}' {unfit}", remedy=f"expected {task}")
        if len(self.input_shape) != (rank := RANK_OF_TOPOLOGY[self.topology]):
            expected = "(features,)" if rank == 1 else "(height, width, channels)"
            raise SpecError(f"input.shape {self.input_shape} {unfit}", remedy=f"expected {expected}")


def load_spec(path_or_name: str | Path) -> ModelSpec | FloatSpec:
    """Read a model spec.

    Args:
        path_or_name: a `spec.toml`, a directory that holds one, or the name of a model (see `find_model_dir`).

    Returns:
        The spec: a `FloatSpec` if it has a `[float]` table, else a `ModelSpec`.

    Raises:
        SpecError: no such file or model; not TOML; an unknown or missing key; a wrong type or value.

    Example:
        >>> load_spec("digits_mlp").dataset
        'digits'
    """
    path = Path(path_or_name)
    if path.is_dir() and (path / SPEC_TOML).is_file():
        path = path / SPEC_TOML
    elif path.suffix != ".toml" and not path.is_file():
        path = find_model_dir(str(path_or_name)) / SPEC_TOML
    table = read_toml(path)
    try:
        return _float_model(table) if "float" in table.data else _model(table)
    except FlowError as error:
        raise SpecError(error.reason, file=path, remedy=error.remedy) from error


def model_search_path() -> tuple[Path, ...]:
    """Return the directories that hold models, in the order in which they are searched.

    They are `$FLOW_MODELS_DIR`, `./models`, `models/` beside the package (a checkout) and `flow/models` (a wheel).
    """
    package = Path(__file__).resolve().parents[1]
    named = os.environ.get("FLOW_MODELS_DIR")
    return (*([Path(named)] if named else []), Path("models"), package.parent / "models", package / "models")


def find_model_dir(name: str) -> Path:
    """Return the directory of a model: the first `<dir>/<name>` on the search path that holds a `spec.toml`.

    Raises:
        SpecError: there is none.
    """
    for place in model_search_path():
        if NAME.fullmatch(name) and (place / name / SPEC_TOML).is_file():
            return place / name
    places = ", ".join(str(place) for place in model_search_path() if place.is_dir())
    raise SpecError(
        f"no model '{name}'{' in ' if places else ''}{places}",
        remedy=f"there are: {', '.join(list_models()) or 'none'}",
    )


def list_models() -> tuple[str, ...]:
    """Return the names of all models on the search path, sorted."""
    names = {spec.parent.name for place in model_search_path() for spec in place.glob(f"*/{SPEC_TOML}")}
    return tuple(sorted(name for name in names if NAME.fullmatch(name)))


def _model(table: Table) -> ModelSpec:
    train, prune, entry = table.table("train"), table.table("prune"), table.table("input")
    spec = ModelSpec(
        name=table.name("name"),
        description=table.text("description"),
        dataset=table.text("dataset", DATASETS),
        input=InputSpec(
            name=entry.name("name"), shape=entry.integers("shape", (1, 3)), format=_format(entry, "format")
        ),
        layers=tuple(_layer(row) for row in table.tables("layers")),
        prune=PruneSpec(
            begin_epoch=prune.integer("begin_epoch", 0, MAX_EPOCHS), end_epoch=prune.integer("end_epoch", 1, MAX_EPOCHS)
        ),
        train=TrainSpec(**_schedule(train), frozen_epochs=train.integer("frozen_epochs", 0, MAX_EPOCHS)),
    )
    for part in (table, train, prune, entry):
        part.close()
    return spec


def _float_model(table: Table) -> FloatSpec:
    train, part, entry = table.table("train"), table.table("float"), table.table("input")
    spec = FloatSpec(
        name=table.name("name"),
        description=table.text("description"),
        dataset=table.text("dataset", DATASETS),
        input_shape=entry.integers("shape", (1, 3)),
        topology=part.text("topology", tuple(TASK_OF_TOPOLOGY)),
        task=part.text("task", TASKS) if part.has("task") else TASKS[0],
        train=FloatTrainSpec(**_schedule(train)),
    )
    for used in (table, train, part, entry):
        used.close()
    return spec


def _schedule(train: Table) -> dict[str, Any]:
    """Return what both kinds of `[train]` hold."""
    return {
        "epochs": train.integer("epochs", 1, MAX_EPOCHS),
        "batch_size": train.integer("batch_size", 1, 65536),
        "learning_rate": train.number("learning_rate", 1e-6, 1.0),
        "seed": train.integer("seed", 0, 2**31 - 1),
    }


def _layer(table: Table) -> LayerSpec:
    layer = LAYERS[table.text("kind", tuple(LAYERS))](table)
    table.close()
    return layer


def _weights(table: Table) -> dict[str, Any]:
    """Return what dense layers and convolutions say of their weights."""
    return {
        "kernel": _po2(table, "kernel"),
        "bias": _format(table, "bias", signed=True) if table.has("bias") else None,
        "sparsity": table.number("sparsity", 0.0, 1.0),
    }


def _conv2d(table: Table) -> LayerSpec:
    return Conv2DSpec(
        name=table.name("name"),
        filters=table.integer("filters", 1, 65536),
        kernel_size=_pair(table, "kernel_size"),
        strides=_pair(table, "strides") if table.has("strides") else (1, 1),
        padding=table.text("padding", ("valid", "same")) if table.has("padding") else "valid",
        **_weights(table),
    )


def _batch_norm(table: Table) -> LayerSpec:
    name = table.name("name")
    is_po2 = "min_exponent" in table.table("scale").data
    scale = _po2(table, "scale") if is_po2 else _format(table, "scale", signed=True)
    return BatchNormSpec(name=name, scale=scale, offset=_format(table, "offset", signed=True))


LAYERS: Mapping[str, Callable[[Table], LayerSpec]] = {
    "dense": lambda table: DenseSpec(
        name=table.name("name"), units=table.integer("units", 1, 65536), **_weights(table)
    ),
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "relu": lambda table: ReluSpec(name=table.name("name"), format=_format(table, "format", signed=False)),
    "max_pool2d": lambda table: MaxPool2DSpec(name=table.name("name"), size=_pair(table, "size")),
    "flatten": lambda table: FlattenSpec(name=table.name("name")),
}
"""`kind` of a layer -> what reads its table."""


def _pair(table: Table, name: str) -> tuple[int, int]:
    first, second = table.integers(name, (2,))
    return first, second


def _po2(table: Table, name: str) -> Po2Spec:
    part = table.table(name)
    low, high = part.integer("min_exponent", -30, 30), part.integer("max_exponent", -30, 30)
    part.close()
    if low > high:
        raise SpecError(f"key '{part.where}': min_exponent {low} is above max_exponent {high}")
    return Po2Spec(min_exponent=low, max_exponent=high)


def _format(table: Table, name: str, signed: bool | None = None) -> FixedFormat:
    """Read a format of 1 to 24 bits; `signed` demands one or the other kind."""
    part = table.table(name)
    is_signed: bool = part.take("signed", bool, "true or false")
    int_bits, frac_bits = part.integer("int_bits", -24, 24), part.integer("frac_bits", -24, 24)
    part.close()
    if signed is not None and signed != is_signed:
        what, remedy = f"key '{part.where}.signed' is {str(is_signed).lower()}", f"expected {str(signed).lower()}"
        raise SpecError(what, remedy=remedy)
    if not 1 + is_signed <= (bits := is_signed + int_bits + frac_bits) <= 24:
        raise SpecError(f"key '{part.where}' has {bits} bits", remedy="expected 1 to 24 and a sign")
    return FixedFormat(is_signed, int_bits, frac_bits)


def _output_shape(layer: LayerSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one sample after a layer.

    Raises:
        SpecError: the layer does not take that shape.
    """
    if isinstance(layer, (BatchNormSpec, ReluSpec)):
        return shape
    if isinstance(layer, DenseSpec):
        _require(len(shape) == 1, layer.name, "a vector (put a flatten layer before it)", shape)
        return (layer.units,)
    _require(len(shape) == 3, layer.name, "an image (height, width, channels)", shape)
    height, width, channels = shape
    if isinstance(layer, FlattenSpec):
        return (height * width * channels,)
    if isinstance(layer, MaxPool2DSpec):
        _require(height >= layer.size[0] and width >= layer.size[1], layer.name, f"at least {layer.size}", shape)
        return (height // layer.size[0], width // layer.size[1], channels)
    (rows, columns), (down, across) = layer.kernel_size, layer.strides
    if layer.padding == "same":
        return (-(-height // down), -(-width // across), layer.filters)
    _require(height >= rows and width >= columns, layer.name, f"at least {layer.kernel_size}", shape)
    return ((height - rows) // down + 1, (width - columns) // across + 1, layer.filters)


def _require(condition: bool, layer: str, expected: str, shape: tuple[int, ...]) -> None:
    if not condition:
        raise SpecError(f"layer '{layer}' needs {expected}; its input has shape {shape}", named=layer)
