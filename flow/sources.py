"""Where a model and its inputs come from: `models/`, a spec file, a user's Keras file; a data set or `.npy` files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.data.inputs import Samples, read_samples
from flow.data.labels import Given
from flow.errors import DataError, InputError, ModelFileError, SpecError, ToolMissingError
from flow.files import writing
from flow.frontend.base import Frontend, Inference, front_end, taker
from flow.frontend.trained import (
    FLOAT_DIR,
    TRAINED_JSON,
    TRAINED_NPZ,
    TrainedModel,
    load_trained,
    save_trained,
    trained_from,
)
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.runs import digest, digest_code, digest_file, read_kept, read_npz, write_npz
from flow.runs import keep as keep_result
from flow.train.spec import DATASETS, SPEC_TOML, FloatSpec, Spec, find_model_dir, load_spec

DIGESTS = "digests.json"
"""Beside what is kept of a Keras file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A model as found.

    Attributes:
        trained: the model as data.
        dataset: name of the data set that a model was trained on here.
        has_spec: whether a spec says how it is trained.
        keras_file, weights: the user's files, for software inference on the model as it is.
    """

    trained: TrainedModel
    dataset: str | None = None
    has_spec: bool = False
    keras_file: Path | None = None
    weights: Path | None = None

    @property
    def level(self) -> str:
        """What inference of the model by its own framework is called among the levels of a comparison."""
        return front_end(self.trained.frontend).level

    def frozen(self, samples: Samples | None) -> Source:
        """Return the model with what its framework would find in each batch of data found in samples, if anything.

        Raises:
            ToolMissingError: that asks for its framework, which is not installed.
        """
        values = None if samples is None else samples.values
        made = front_end(self.trained.frontend).freeze(self.trained, self.keras_file, self.weights, values)
        return replace(self, trained=made)

    def inference(self, extracted: IntGraph, lowered: IntGraph) -> Inference:
        """Return inference of the model by its own framework.

        Args:
            extracted: its graph before any pass.
            lowered: the graph of unified modules; the results are codes of its ops.

        Raises:
            ToolMissingError: the framework is not installed.
        """
        run = front_end(self.trained.frontend).inference
        return run(self.trained, self.keras_file, self.weights, extracted, lowered)

    def outputs(self, lowered: IntGraph, codes: Codes) -> Mapping[str, NDArray[np.float32]]:
        """Return what the model itself computes, as numbers.

        Args:
            lowered: the graph of unified modules, for its ports and outputs.
            codes: input codes (samples, *port_shape).

        Returns:
            Name of the output op -> (samples, *op.shape).

        Raises:
            ToolMissingError: the framework is not installed.
        """
        run = front_end(self.trained.frontend).outputs
        return run(self.trained, self.keras_file, self.weights, lowered, codes)


def find_source(model: Path, *, weights: Path | None, cache: Path) -> Source:
    """Find and read a model.

    Args:
        model: a name in `models/`, a spec file or its directory, that of a trained model, or a Keras model.
        weights: weights file for a model given as `.json`.
        cache: directory for what was read from Keras files, by their digest: reading takes TensorFlow.

    Raises:
        ModelFileError: there is no such model, it is not trained, or it is damaged.
        SpecError: a spec file is wrong.
        ToolMissingError: a Keras file needs TensorFlow to be read.
        OutputError: the cache cannot be written.
    """
    reader = taker(model)
    if reader is not None:
        trained = _read_file(reader, model, weights, cache)
        return Source(trained=trained, keras_file=model, weights=weights)
    if _is_trained(model):
        return _of_directory(model, weights)
    directory, spec = _named(model, weights)
    if isinstance(spec, FloatSpec):
        raise SpecError("is a float model", model=spec.name, remedy=f"run 'flow quantize {model}'")
    if not (directory / TRAINED_JSON).exists():
        raise ModelFileError("is not trained yet", model=spec.name, remedy=f"run 'flow train {model}'")
    return Source(trained=load_trained(directory), dataset=str(spec.dataset), has_spec=True)


def find_float(model: Path, *, weights: Path | None, cache: Path) -> Source:
    """Find and read a float model: one of `models/`, the float twin of a quantized one there, or a Keras model.

    Args:
        model, weights, cache: as of `find_source`.

    Raises:
        FlowError: as of `find_source`.
    """
    if taker(model) is not None:
        return find_source(model, weights=weights, cache=cache)
    if _is_trained(model):
        return _of_directory(model, weights)
    directory, spec = _named(model, weights)
    kept = directory if isinstance(spec, FloatSpec) else directory / FLOAT_DIR
    if not (kept / TRAINED_JSON).exists():
        raise ModelFileError("has no trained float model", model=spec.name, remedy=f"run 'flow train {model}'")
    return Source(trained=load_trained(kept), dataset=str(spec.dataset), has_spec=True)


def _is_trained(model: Path) -> bool:
    """Say whether a path is a directory that `flow.train_model` left of a model without a spec."""
    return model.is_dir() and (model / TRAINED_JSON).exists() and not (model / SPEC_TOML).exists()


def _of_directory(directory: Path, weights: Path | None) -> Source:
    _refuse_weights(directory, weights)
    trained = load_trained(directory)
    return Source(trained=trained, dataset=trained.provenance.get("dataset"))


def _refuse_weights(model: Path, weights: Path | None) -> None:
    if weights is not None:
        raise SpecError("--weights goes with a model given as .json", model=model)


def _named(model: Path, weights: Path | None) -> tuple[Path, Spec]:
    """Return the directory of a model that has a spec, and the spec."""
    _refuse_weights(model, weights)
    if model.suffix == ".toml":
        return model.parent, load_spec(model)
    directory = model if model.is_dir() else find_model_dir(str(model))
    return directory, load_spec(directory / SPEC_TOML)


def _read_file(reader: Frontend, model: Path, weights: Path | None, cache: Path) -> TrainedModel:
    for path in (model, weights):
        if path is not None and not path.exists():
            raise ModelFileError("no such file", file=path)
    contents = [digest_file(path) for path in (model, weights) if path is not None]
    code = [digest_code(room) for room in reader.code]  # another version may read it otherwise
    key = digest(model.name, contents, code)
    kept = cache / key[:16]
    with suppress(OSError, ModelFileError):  # not there yet, or damaged: it is read again
        content = {name: (kept / name).read_bytes() for name in (TRAINED_JSON, TRAINED_NPZ)}
        if read_kept(kept / DIGESTS, key) == {name: sha256(each).hexdigest() for name, each in content.items()}:
            return trained_from(content[TRAINED_JSON], content[TRAINED_NPZ], kept)
    trained = reader.read_file(model, weights)
    keep_result(kept / DIGESTS, key, save_trained(trained, kept))
    return trained


def keep(source: Source, directory: Path) -> dict[str, str]:
    """Write what software inference needs of a model, without the inputs kept with it.

    Returns:
        File below the directory -> SHA-256 of what was written to it.

    Raises:
        OutputError: a file cannot be written.
    """
    shutil.rmtree(directory, ignore_errors=True)
    bare = replace(source.trained, verification_inputs=None, verification_labels=None, calibration_inputs=None)
    files = save_trained(bare, directory)
    for role, path in (("keras", source.keras_file), ("weights", source.weights)):
        if path is not None:
            for item in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if item.is_file():
                    name = (Path(role) / path.name / item.relative_to(path)).as_posix()
                    with item.open("rb") as original, writing(directory / name) as copy:
                        shutil.copyfileobj(original, copy)
                    files[name] = copy.digest()
    return files


def kept(directory: Path) -> Source:
    """Return the model that `keep` wrote.

    Raises:
        ModelFileError: a file is missing or damaged.
    """
    own = {path.parent.name: path for role in ("keras", "weights") for path in sorted((directory / role).glob("*"))}
    return Source(trained=load_trained(directory), keras_file=own.get("keras"), weights=own.get("weights"))


def find_samples(source: Source, inputs: Path | None, labels: Path | None, count: int, cache: Path) -> Samples | None:
    """Return at most `count` inputs: the user's, the data set's test split, or those kept with the model.

    Raises:
        DataError: a file does not fit the model.
        OutputError: the cache cannot be written.
    """
    if inputs is not None:
        return read_samples(inputs, labels, source.trained.input_shapes()).first(count)
    if source.dataset is None:
        return None
    kept = source.trained.verification_labels
    if source.dataset not in DATASETS or isinstance(kept, Mapping):
        return _kept_samples(source, count, f"test samples kept with the model ({source.dataset})")
    try:
        split = _test_split(source.dataset, count, cache)
        return replace(split, labels=None) if kept is None else split  # what gives its input again tells no classes
    except ToolMissingError:
        samples = _kept_samples(
            source, count, f"verification inputs kept with the model (the {source.dataset} test set is not at hand)"
        )
        if samples is None:
            raise
        return samples


def _kept_samples(source: Source, count: int, words: str) -> Samples | None:
    """Return the test samples that were kept with a model, or None."""
    trained = source.trained
    if trained.verification_inputs is None:
        return None
    kept = trained.verification_labels
    labels = None
    if kept is not None:
        arrays = kept if isinstance(kept, Mapping) else {"": kept}
        labels = Given(arrays=arrays, source=Path(source.dataset or "")).first(count)
    return Samples(values=trained.verification_inputs[:count], labels=labels, source=words)


def find_calibration(source: Source, calibration: Path | None) -> Samples:
    """Return calibration inputs: the user's, or those of the training split that are kept with the model.

    Raises:
        DataError: a file does not fit the model, or there is none and the model has none of its own.
    """
    if calibration is not None:
        return read_samples(calibration, None, source.trained.input_shapes())
    if source.trained.calibration_inputs is None:
        what = "has no calibration inputs of its own"
        raise DataError(what, model=source.trained.name, remedy="give --calibration x.npy")
    words = f"training samples kept with the model ({source.dataset})"
    return Samples(values=source.trained.calibration_inputs, labels=None, source=words)


def _test_split(dataset: str, count: int, cache: Path) -> Samples:
    """Return the start of a test split, through a cache: unpacking a data set takes a second."""
    from flow.data.datasets import KNOWN_CONTENT, load_dataset, named

    source = f"{dataset} test set"
    kept = cache / f"{dataset}-test-{count}-{version('po2flow')}.npz"
    try:
        arrays = read_npz(kept)
        return Samples(values=arrays["values"], labels=_of_dataset(arrays["labels"], dataset), source=source)
    except InputError:  # not there yet, or damaged: it is made again
        data = load_dataset(dataset, download=False)
    values, labels = data.x_test[:count], named(data.y_test)[""][:count]
    if dataset in KNOWN_CONTENT:
        write_npz(kept, {"values": values, "labels": labels})
    return Samples(values=values, labels=_of_dataset(labels, dataset), source=source)


def _of_dataset(labels: NDArray[np.int64], dataset: str) -> Given:
    return Given(arrays={"": labels}, source=Path(dataset))
