"""Model specs: what to train, as data. `load_spec` reads `spec.toml`; docs of every key are in models/README.md.

A spec names its layers one by one (`flow.train.spec_layers`), or with `[net]` a Python function that makes the model,
or a Keras file that is trained on. A spec with a `[float]` table is of a float model: it names a topology of
`flow.train.build`, or a function or file, and no formats. The samples are those of a data set by its name, or with
`[data]` the user's own (`flow.data.own`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.data.functions import FunctionSpec, read_function
from flow.data.own import DataSpec, read_data
from flow.errors import FlowError, SpecError
from flow.ir.fixed import FixedFormat
from flow.runs import digest_file
from flow.toml_table import NAME, Table, read_toml
from flow.train.patterns import counts_itself
from flow.train.spec_layers import BIT, OF_BITS, output_shape, read_layer
from flow.train.spec_layers import BatchNormSpec as BatchNormSpec
from flow.train.spec_layers import Conv1DSpec as Conv1DSpec
from flow.train.spec_layers import Conv2DSpec as Conv2DSpec
from flow.train.spec_layers import DenseSpec as DenseSpec
from flow.train.spec_layers import DepthwiseConv2DSpec as DepthwiseConv2DSpec
from flow.train.spec_layers import DropoutSpec as DropoutSpec
from flow.train.spec_layers import FlattenSpec as FlattenSpec
from flow.train.spec_layers import LayerSpec as LayerSpec
from flow.train.spec_layers import MergeSpec as MergeSpec
from flow.train.spec_layers import PoolSpec as PoolSpec
from flow.train.spec_layers import PopcountSpec as PopcountSpec
from flow.train.spec_layers import QuantizeSpec as QuantizeSpec
from flow.train.spec_layers import ReluSpec as ReluSpec
from flow.train.spec_layers import ReshapeSpec as ReshapeSpec
from flow.train.spec_layers import TablesSpec as TablesSpec
from flow.train.spec_layers import ThresholdsSpec as ThresholdsSpec
from flow.train.spec_layers import UpSamplingSpec as UpSamplingSpec
from flow.train.spec_training import BALANCED as BALANCED
from flow.train.spec_training import CLASSIFICATION as CLASSIFICATION
from flow.train.spec_training import MAX_EPOCHS as MAX_EPOCHS
from flow.train.spec_training import RECONSTRUCTION as RECONSTRUCTION
from flow.train.spec_training import REGRESSION as REGRESSION
from flow.train.spec_training import TASKS as TASKS
from flow.train.spec_training import AugmentSpec as AugmentSpec
from flow.train.spec_training import DistillSpec as DistillSpec
from flow.train.spec_training import FloatTrainSpec as FloatTrainSpec
from flow.train.spec_training import HeadSpec as HeadSpec
from flow.train.spec_training import PruneSpec as PruneSpec
from flow.train.spec_training import TrainSpec as TrainSpec
from flow.train.spec_training import read_augmentation, read_distill, read_head, read_prune, read_schedule, read_train
from flow.train.spec_values import ApotSpec as ApotSpec
from flow.train.spec_values import BitsSpec as BitsSpec
from flow.train.spec_values import GridSpec as GridSpec
from flow.train.spec_values import LevelsSpec as LevelsSpec
from flow.train.spec_values import Po2Spec as Po2Spec
from flow.train.spec_values import read_format_or_bits

SPEC_TOML, SEARCH = "spec.toml", "search"
MAX_INPUT_BITS = 16
DATASETS = ("digits", "fashion_mnist", "mnist", "lhc_jets")
TASK_OF_TOPOLOGY = {"resnet8": CLASSIFICATION, "mobile": CLASSIFICATION, "autoencoder": RECONSTRUCTION}
RANK_OF_TOPOLOGY = {"resnet8": 3, "mobile": 3, "autoencoder": 1}
"""How many axes a sample has: (height, width, channels) or (features,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The quantizer that opens the model: its layer name, the shape of one sample and the format.

    A format that is a number of bits is fitted: its range holds every value of the training split.
    """

    name: str
    shape: tuple[int, ...]
    format: FixedFormat | int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A quantized model, layer by layer, and how to train it; no `heads` stand for the last layer, which classifies."""

    name: str
    description: str
    dataset: str | DataSpec
    input: InputSpec
    layers: tuple[LayerSpec, ...]
    heads: tuple[HeadSpec, ...] = ()
    augment: tuple[AugmentSpec, ...] = ()
    distill: DistillSpec | None = None
    prune: PruneSpec | None
    train: TrainSpec

    def __post_init__(self) -> None:
        names = [self.input.name, *(layer.name for layer in self.layers)]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"layer name '{name}' is used twice", remedy="give each layer its own")
        pruned = [layer.name for layer in self.layers if getattr(layer, "sparsity", 0)]
        if self.prune is None and pruned:
            what = f"layer '{pruned[0]}' has a sparsity, but no table says when to prune"
            raise SpecError(what, remedy="add [prune] with begin_epoch and end_epoch")
        if self.prune is not None and pruned and counts_itself(self.prune.pattern):
            what = (
                f"pattern '{self.prune.pattern}' says itself how many weights stay, and layer '{pruned[0]}' a sparsity"
            )
            raise SpecError(what, remedy="take one of them out")
        if self.prune is not None and pruned and self.prune.luts is not None:
            what = f"prune.luts is a budget for all layers, and layer '{pruned[0]}' has a sparsity"
            raise SpecError(what, remedy="take one of them out")
        if self.prune is not None and self.prune.end_epoch > self.train.epochs:
            raise SpecError(f"prune.end_epoch {self.prune.end_epoch} is after train.epochs {self.train.epochs}")
        shapes = self.shapes()
        if not isinstance(self.input.format, int):
            self._check_bits()
        if self.prune is not None and self.has_tables():
            raise SpecError("[prune] does not go with tables, which choose their wires", remedy="take it out")
        heads = {head.layer for head in self.learned()}
        for head in self.learned():
            _check_head(head, self.layers, shapes)
        read = {name for _, names in self.connections() for name in names}
        for layer in self.layers:
            if layer.name not in read | heads:
                what = f"layer '{layer.name}' is read by no layer and is no head"
                raise SpecError(what, remedy="name it in a 'from', or in [[heads]]", named=layer.name)

    def learned(self) -> tuple[HeadSpec, ...]:
        """Return the heads: those given, or the last layer."""
        return self.heads or (HeadSpec(layer=self.layers[-1].name),)

    def has_tables(self) -> bool:
        """Say whether a layer trains in another form than that of the model."""
        return any(isinstance(layer, ThresholdsSpec | TablesSpec | PopcountSpec) for layer in self.layers)

    def formats(self) -> dict[str, FixedFormat | None]:
        """Return the format of the input and of what each layer gives, by name, where the spec says it."""
        formats = {self.input.name: self.input.format if isinstance(self.input.format, FixedFormat) else None}
        for layer, names in self.connections():
            if isinstance(layer, ReluSpec | QuantizeSpec):
                formats[layer.name] = layer.format if isinstance(layer.format, FixedFormat) else None
            elif isinstance(layer, ThresholdsSpec | TablesSpec):
                formats[layer.name] = BIT
            else:
                read = {formats[name] for name in names}
                moves = isinstance(layer, FlattenSpec | ReshapeSpec | UpSamplingSpec) or (
                    isinstance(layer, MergeSpec) and layer.function == "concatenate"
                )
                formats[layer.name] = read.pop() if moves and len(read) == 1 else None
        return formats

    def _check_bits(self) -> None:
        """Refuse a layer of tables that reads no bits, and thresholds of what has no format."""
        formats = self.formats()
        for layer, names in self.connections():
            for name in names:
                if isinstance(layer, OF_BITS) and formats[name] != BIT:
                    what = f"layer '{layer.name}' reads bits, and '{name}' gives others than 0 and 1"
                    remedy = "put a thresholds layer between them, or a relu with int_bits = 1 and frac_bits = 0"
                    raise SpecError(what, remedy=remedy, named=layer.name)
                if isinstance(layer, ThresholdsSpec) and formats[name] is None:
                    what = f"layer '{layer.name}' compares what '{name}' gives, whose format no relu or quantize says"
                    raise SpecError(what, remedy="put one before it", named=layer.name)
                if isinstance(layer, ThresholdsSpec) and layer.levels and formats[name] != self.input.format:
                    what = f"layer '{layer.name}' fits its thresholds to inputs, but reads '{name}'"
                    raise SpecError(what, remedy="say them with 'at'", named=layer.name)

    def connections(self) -> tuple[tuple[LayerSpec, tuple[str, ...]], ...]:
        """Return each layer with the names of what it reads."""
        before = (self.input.name, *(layer.name for layer in self.layers))
        return tuple((layer, layer.inputs or (name,)) for layer, name in zip(self.layers, before, strict=False))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one sample of the input and behind each layer, by name.

        Raises:
            SpecError: a layer reads what is not there, or does not take its shape.
        """
        shapes = {self.input.name: self.input.shape}
        for layer, names in self.connections():
            for name in names:
                if name not in shapes:
                    what = f"layer '{layer.name}' reads '{name}', which is no layer before it"
                    raise SpecError(what, remedy=f"there are {', '.join(shapes)}", named=layer.name)
            shapes[layer.name] = output_shape(layer, tuple(shapes[name] for name in names))
        return shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A Keras file whose model is trained on.

    Attributes:
        path: of the file.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise SpecError(f"there is no file {self.path}", remedy="name a Keras file beside the spec")

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def call(self) -> Any:
        """Return the model, with the weights that it has.

        Raises:
            ModelFileError: it is no Keras model, or one that holds code.
            UnsupportedError: a layer or a quantizer that we do not know.
        """
        from flow.train.reader import read_keras

        return read_keras(self.path).keras

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        return digest_file(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSpec:
    """A quantized model that a Python function makes, or that is in a file, and how to train it.

    Attributes:
        name, description, dataset, augment, distill: as of a `ModelSpec`.
        net: gives a Keras model with layers of QKeras or of ours, with which training begins; None if it is there.
        heads: its outputs, by their names; none stand for the only output, which classifies.
        train: how to train it.
    """

    name: str
    description: str
    dataset: str | DataSpec
    net: FunctionSpec | ModelFile | None = None
    heads: tuple[HeadSpec, ...] = ()
    augment: tuple[AugmentSpec, ...] = ()
    distill: DistillSpec | None = None
    train: TrainSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatSpec:
    """A float model, to be quantized after training, and how to train it.

    Attributes:
        name, description, dataset, augment, distill: as of a `ModelSpec`.
        input_shape: of one sample; empty if a function says it.
        topology: a key of `flow.train.build.TOPOLOGIES`; empty if a function makes the model.
        task: of the only output: "classification" (logits, one per class) or "reconstruction" (the input again).
        net: a function that returns a Keras model, or a file of one, with which training begins.
        heads: outputs of the function's model, by their names; none stand for the only output, whose task is `task`.
        train: how to train it.
    """

    name: str
    description: str
    dataset: str | DataSpec
    input_shape: tuple[int, ...] = ()
    topology: str = ""
    task: str = CLASSIFICATION
    net: FunctionSpec | ModelFile | None = None
    heads: tuple[HeadSpec, ...] = ()
    augment: tuple[AugmentSpec, ...] = ()
    distill: DistillSpec | None = None
    train: FloatTrainSpec

    def __post_init__(self) -> None:
        if not self.topology:
            return
        unfit = f"does not go with topology '{self.topology}'"
        if self.task != (task := TASK_OF_TOPOLOGY[self.topology]):
            raise SpecError(f"float.task '{self.task}' {unfit}", remedy=f"expected {task}")
        if len(self.input_shape) != (rank := RANK_OF_TOPOLOGY[self.topology]):
            expected = "(features,)" if rank == 1 else "(height, width, channels)"
            raise SpecError(f"input.shape {self.input_shape} {unfit}", remedy=f"expected {expected}")


Spec = ModelSpec | OwnSpec | FloatSpec


def load_spec(path_or_name: str | Path) -> Spec:
    """Read a model spec. No function that it names is run.

    Args:
        path_or_name: a `spec.toml`, a directory that holds one, or the name of a model (see `find_model_dir`).

    Returns:
        The spec: a `FloatSpec` if it has a `[float]` table, an `OwnSpec` if it has a `[net]` table, else a `ModelSpec`.

    Raises:
        SpecError: no such file or model; not TOML; an unknown or missing key; a wrong type or value.

    Example:
        >>> load_spec("digits_mlp").dataset
        'digits'
    """
    path = find_spec(path_or_name)
    table = read_toml(path)
    read = _float_model if table.has("float") else _own_model if table.has("net") else _model
    table.asked.clear()
    try:
        return read(table, path.parent)
    except FlowError as error:
        raise SpecError(error.reason, file=path, remedy=error.remedy) from error


def find_spec(path_or_name: str | Path) -> Path:
    """Return the file of a spec that is named as for `load_spec`; a file need not be there.

    Raises:
        SpecError: there is no model of that name.
    """
    path = Path(path_or_name)
    if path.is_dir() and (path / SPEC_TOML).is_file():
        return path / SPEC_TOML
    return path if path.suffix == ".toml" or path.is_file() else find_model_dir(str(path_or_name)) / SPEC_TOML


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


def _common(table: Table, directory: Path) -> dict[str, Any]:
    """Return what all kinds of specs say of themselves and of their samples."""
    own = table.has("data")
    given: dict[str, Any] = {
        "name": table.name("name"),
        "description": table.text("description") if table.has("description") else "",
        "dataset": read_data(table.table("data"), directory) if own else table.text("dataset", DATASETS),
    }
    if table.has("augment"):
        given["augment"] = tuple(read_augmentation(row) for row in table.tables("augment"))
    if table.has("heads"):
        given["heads"] = tuple(read_head(row) for row in table.tables("heads"))
    if table.has("distill"):
        given["distill"] = read_distill(table.table("distill"), directory)
    table.has(SEARCH)  # which `flow explore` reads
    return given


def _model(table: Table, directory: Path) -> ModelSpec:
    common = _common(table, directory)
    entry, prune = table.table("input"), None
    given = InputSpec(
        name=entry.name("name"),
        shape=entry.integers("shape", (1, 2, 3)),
        format=read_format_or_bits(entry, "format", None, MAX_INPUT_BITS),
    )
    layers = tuple(read_layer(row) for row in table.tables("layers"))
    if table.has("prune"):
        prune = read_prune(table.table("prune"))
    spec = ModelSpec(**common, input=given, layers=layers, prune=prune, train=read_train(table))
    for used in (table, entry):
        used.close()
    return spec


def _own_model(table: Table, directory: Path) -> OwnSpec:
    common, part = _common(table, directory), table.table("net")
    spec = OwnSpec(**common, net=_net(part, directory), train=read_train(table))
    for used in (table, part):
        used.close()
    return spec


def _float_model(table: Table, directory: Path) -> FloatSpec:
    common, part = _common(table, directory), table.table("float")
    train = table.table("train")
    given: dict[str, Any] = {"train": FloatTrainSpec(**read_schedule(train))}
    if part.has("task"):
        given["task"] = part.text("task", TASKS)
    if part.has("function") or part.has("file"):
        given["net"] = _net(part, directory)
    else:
        if "heads" in common:
            raise SpecError("key 'heads' goes with a net of your own", remedy="leave it out, or add float.function")
        entry = table.table("input")
        given["input_shape"] = entry.integers("shape", (1, 3))
        given["topology"] = part.text("topology", tuple(TASK_OF_TOPOLOGY))
        entry.close()
    spec = FloatSpec(**common, **given)
    for used in (table, train, part):
        used.close()
    return spec


def _net(table: Table, directory: Path) -> FunctionSpec | ModelFile:
    """Return what gives a model: the Keras file that a table names with `file`, or its function."""
    return ModelFile(path=directory / table.text("file")) if table.has("file") else read_function(table, directory)


def _check_head(head: HeadSpec, layers: tuple[LayerSpec, ...], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a head that no loss can be held against."""
    if head.layer not in shapes:
        what = f"head '{head.layer}' is no layer"
        raise SpecError(what, remedy=f"there are {', '.join(shapes)}", named=head.layer)
    (layer,) = (each for each in layers if each.name == head.layer)
    ends = (DenseSpec, Conv1DSpec, Conv2DSpec, BatchNormSpec, PopcountSpec)
    if not isinstance(layer, ends if head.task == CLASSIFICATION else (*ends, QuantizeSpec, ReluSpec)):
        which = "the last layer" if layer is layers[-1] else f"head '{head.layer}'"
        what = f"{which} must be dense or popcount, or batch_norm after dense, with one unit per class"
        raise SpecError(f"{what}; or a convolution, with one filter per class", named=head.layer)
