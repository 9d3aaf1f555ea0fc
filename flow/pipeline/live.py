"""Models and arrays of a Python session, kept as the files that a build reads.

A live object goes the way of a file: the same gate reads it, the run keeps the same copy of it, and the same commands
make the run again. Files are named by their content, so what was read and tabled of one object is found again.

    model     Keras 2 (tf-keras) or QKeras: HDF5; Keras 3: its `.keras`
    x, y      NumPy, pandas, tf.data.Dataset, or anything that NumPy takes: `.npy`, of several `.npz`; no more samples
              than are run
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from flow.data.inputs import Arrays
from flow.data.session import Data, as_arrays, first_batches, is_dataset
from flow.errors import FlowError, ModelFileError, SpecError, at, shown
from flow.files import temporary, writing
from flow.ir.names import identifier
from flow.pipeline.models import open_cache
from flow.pipeline.options import BuildOptions

GIVEN = "given"
"""Where the files lie: below the directory of what was read before."""


class KerasModel(Protocol):
    """A Keras model, of Keras 2 or 3, as far as it is used here."""

    name: str

    def get_config(self) -> Any:
        """Return its layers as JSON types."""

    def save(self, filepath: str, **settings: Any) -> Any:
        """Write it to a file."""


Model: TypeAlias = str | Path | KerasModel
Options = TypeVar("Options", bound=BuildOptions)


@contextmanager
def as_files(
    model: Model, options: Options, *, x: Data = None, y: Data = None, calibration: Data = None
) -> Iterator[tuple[Path, Options]]:
    """Keep live objects as files while they are built.

    Args:
        model: a Keras model, or what `flow.build` takes as a name or path.
        options: of the build.
        x: inputs, (samples, *shape); of several inputs by their names. A `tf.data.Dataset` may give `y` too.
        y: labels (samples,); of several outputs by their names.
        calibration: samples to calibrate a float model with, as `x`.

    Yields:
        The path of the model, and the options with the paths of the arrays.

    Raises:
        SpecError: an argument is given twice.
        ModelFileError: Keras cannot save the model.
        DataError: an argument is no array of numbers.
        FlowError: what is raised inside; it names the argument where it would name its file.
    """
    kept = open_cache(options.output) / GIVEN
    arguments = dict[str, tuple[str, str]]()
    path = model if isinstance(model, str | Path) else _kept_model(model, kept)
    if path is not model:
        arguments[str(path)] = ("model", Path(path).stem)
    given: dict[str, Any] = {"inputs": x, "labels": y, "calibration": calibration}
    if is_dataset(x) and y is None:
        with at(argument="x"):
            given["inputs"], given["labels"] = first_batches(x, options.samples)
    files = dict[str, Any]()
    for field, data in given.items():
        if data is None:
            continue
        argument = {"inputs": "x", "labels": "y"}.get(field, field)
        if getattr(options, field, None) is not None:
            raise SpecError(f"'{argument}' and the option '{field}' were both given", remedy="give one of them")
        limit = None if field == "calibration" else options.samples
        with at(argument=argument):
            files[field] = _kept_arrays(as_arrays(data, limit), kept, argument)
        arguments[str(files[field])] = ("argument", argument)
    try:
        yield Path(path), replace(options, **files)
    except FlowError as error:
        raise _of_arguments(error, arguments) from error.__cause__


def _of_arguments(error: FlowError, arguments: Mapping[str, tuple[str, str]]) -> FlowError:
    """Return an error that names arguments where it named their files."""
    error.where = tuple(arguments.get(str(name), (kind, name)) for kind, name in error.where)
    return error


# -- models


def _kept_model(model: KerasModel, directory: Path) -> Path:
    """Return the file of a live model, written if it is not there yet."""
    classes = [each.__module__.partition(".")[0] for each in type(model).__mro__]
    if not {"tf_keras", "keras"} & set(classes) or not hasattr(model, "save"):
        what = f"expected a Keras model or where one is, not an object of class {type(model).__name__}"
        raise SpecError(what, field="model")
    legacy = "tf_keras" in classes
    with temporary() as scratch:
        file = scratch / f"{identifier(model.name, ())}{'.h5' if legacy else '.keras'}"
        return _kept(saved(model, file), directory, file.name)


def saved(model: KerasModel, file: Path) -> bytes:
    """Return a Keras model as a file of it holds it; it is written there, `.h5` of Keras 2, or `.keras` of Keras 3.

    Raises:
        ModelFileError: Keras cannot save it.
    """
    settings = {"include_optimizer": False, **({"save_format": "h5"} if file.suffix == ".h5" else {})}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras, about the format and about QKeras' constraints
            model.save(str(file), **settings)
    except Exception as error:  # Keras refuses in many ways: subclassed, not built, names with slashes
        what = f"Keras cannot save it ({shown(error)})"
        remedy = "give a Sequential or functional model that is built"
        raise ModelFileError(what, model=model.name, remedy=remedy) from error
    return file.read_bytes()


def _kept(content: bytes, directory: Path, name: str) -> Path:
    """Return a file of this content; what is there has the digest of its content in its path."""
    path = directory / sha256(content).hexdigest()[:16] / name
    if not path.exists():
        with writing(path) as file:
            file.write(content)
    return path


def _kept_arrays(arrays: Arrays, directory: Path, argument: str) -> Path:
    content = BytesIO()
    if isinstance(arrays, Mapping):
        np.savez(content, **arrays)  # type: ignore[arg-type]
        return _kept(content.getvalue(), directory, f"{argument}.npz")
    np.save(content, arrays)
    return _kept(content.getvalue(), directory, f"{argument}.npy")
