"""A user's own samples, as `[data]` of a spec names them: files, folders of pictures, or a Python function.

    file = "wine.csv"                .csv or .parquet: a sample a row; `labels` names columns, all others are `features`
    file = "series.npz"              arrays x and y; x_train, y_train, x_test, y_test if the split is given
    file = ["x.npy", "y.npy"]        inputs and labels
    folder = "pictures"              a directory of pictures for each class, under any name
    function = "my_data.py:load"     returns (x, y), or ((x, y), (x_test, y_test)) as Keras' data sets do

What is fitted (scaling, classes) is fitted to the training split, and recorded in `Dataset.preparation`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.array_files import read_arrays
from flow.data.datasets import INSTALL_COMMAND, Dataset, Targets, named
from flow.data.functions import FunctionSpec, read_function
from flow.data.images import SUFFIXES, read_resized
from flow.data.tables import TABLES, read_table
from flow.errors import DataError, SpecError, ToolMissingError, at, counted, shown
from flow.toml_table import Table

NONE, STANDARD, MIN_MAX = SCALINGS = ("none", "standard", "min_max")
ARRAYS = "arrays"
"""What a data set of arrays of a Python session is called."""
SPLITS = ("train", "validation", "test")
"""What the column `split` of a table says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """How samples are split and scaled.

    Attributes:
        test, validation: fractions of the samples.
        stratified: whether each class of the first labels has the same share of each split.
        scaling: of each feature: "none", "standard" (mean 0, deviation 1) or "min_max" (from 0 to 1).
        seed: of the split.
    """

    test: float = 0.2
    validation: float = 0.0
    stratified: bool = False
    scaling: str = NONE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.test + self.validation >= 1:
            raise SpecError(f"data.test and data.validation are {self.test + self.validation:g} of all samples")
        if self.scaling not in SCALINGS:
            raise SpecError(f"scaling is {shown(self.scaling)}", remedy=f"expected one of {', '.join(SCALINGS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec(SplitSpec):
    """Where samples are, and how they are split and scaled: the keys of `[data]`.

    Attributes:
        file: one file, or two: inputs and labels.
        test_file: the test split, in the same form; empty if `test` says how much of `file` it is.
        folder, test_folder: with a directory of pictures for each class.
        size: height and width that pictures are brought to.
        channels: 3, or 1 for grey.
        function: returns the samples.
        labels: columns of a table, or arrays of an archive; empty for the last column, or "y".
        features: columns of a table; empty for all that are neither labels nor `split`.
        split: a column of a table that says "train", "validation" or "test".
        directory: what files are relative to.
    """

    file: tuple[str, ...] = ()
    test_file: tuple[str, ...] = ()
    folder: str = ""
    test_folder: str = ""
    size: tuple[int, ...] = ()
    channels: int = 3
    function: FunctionSpec | None = None
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    split: str = ""
    directory: Path = field(default=Path(), repr=False)

    def __post_init__(self) -> None:
        SplitSpec.__post_init__(self)
        given = [bool(self.file), bool(self.folder), self.function is not None]
        if sum(given) != 1:
            raise SpecError("data names not one source", remedy="expected one of file, folder and function")

    def __str__(self) -> str:
        return self.folder or " and ".join(self.file) or getattr(self.function, "name", "")


def read_data(table: Table, directory: Path) -> DataSpec:
    """Return what a table `[data]` says.

    Raises:
        SpecError: a key is unknown, or of a wrong type or value.
    """
    given: dict[str, Any] = {}
    if table.has("function"):
        given["function"] = read_function(table, directory)
    given |= {key: table.texts(key) for key in ("file", "test_file", "labels", "features") if table.has(key)}
    given |= {key: table.text(key) for key in ("folder", "test_folder", "split") if table.has(key)}
    given |= {key: table.number(key, 0.0, 1.0) for key in ("test", "validation") if table.has(key)}
    if table.has("scaling"):
        given["scaling"] = table.text("scaling", SCALINGS)
    if table.has("stratified"):
        given["stratified"] = table.take("stratified", bool, "true or false")
    if table.has("seed"):
        given["seed"] = table.integer("seed", 0, 2**31 - 1)
    if table.has("size") or "folder" in given:
        given["size"] = table.integers("size", (2,))
    if table.has("channels"):
        given["channels"] = table.integer("channels", 1, 3)
    table.close()
    if given.get("channels") == 2:
        raise SpecError("key 'data.channels' is 2", remedy="expected 1 (grey) or 3")
    return DataSpec(**given, directory=directory)


# -- samples as they are found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Raw:
    """Samples before they are split and scaled.

    Attributes:
        x: (samples, *shape).
        y: labels by name, numbers or texts; the only ones are called "".
        split: of each sample, if a column says it.
        columns: names of the features of a table.
    """

    x: NDArray[Any]
    y: Mapping[str, NDArray[Any]]
    split: NDArray[Any] | None = None
    columns: tuple[str, ...] = ()

    def __getitem__(self, at: Any) -> _Raw:
        return replace(self, x=self.x[at], y={name: labels[at] for name, labels in self.y.items()})


def load_own(spec: DataSpec, regression: Collection[str] = ()) -> Dataset:
    """Load a user's samples.

    Args:
        spec: where they are, and how they are split and scaled.
        regression: which labels are targets, by name; all others are classes.

    Returns:
        The data set. Classes are numbered in the order of their names, and numbers in theirs.

    Raises:
        DataError: a file is missing, damaged, or holds something else.
        SpecError: the function failed.
        ToolMissingError: a package that reads the files is missing.
    """
    return _dataset(_read(spec), spec, str(spec), spec.split, regression)


def of_arrays(arrays: Mapping[str, Any], spec: SplitSpec) -> Dataset:
    """Return arrays of a Python session as a data set; labels of floats are targets, all others classes.

    Args:
        arrays: "x" and "y", and of a split that is given "x_test" and "y_test".
        spec: how they are split and scaled.

    Raises:
        DataError: they do not fit each other.
    """
    pairs = [_pair(arrays[f"x{end}"], arrays[f"y{end}"], "x") for end in ("", "_test") if f"x{end}" in arrays]
    targets = {name for name, labels in pairs[0].y.items() if labels.dtype.kind == "f"}
    return _dataset(pairs[0] if len(pairs) == 1 else (pairs[0], pairs[1]), spec, ARRAYS, "", targets)


def _dataset(
    found: _Raw | tuple[_Raw, _Raw], spec: SplitSpec, source: str, column: str, regression: Collection[str]
) -> Dataset:
    """Return samples, split, scaled and numbered; `column` says the split of a table that says it itself."""
    for part in found if isinstance(found, tuple) else (found,):
        _refuse_not_finite(part, source)
        _hold_strata(part, spec, source, regression)
    train, valid, test = _splits(found, spec, source, column)
    if not len(test.x) or not len(train.x):
        raise DataError(f"{len(train.x)} training and {len(test.x)} test samples", file=source)
    offset, divisor = _scaling(spec.scaling, train.x)
    parts: dict[str, Any] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name in train.y:
        every = [part.y[name] for part in (train, valid, test)]
        is_targets = name in regression if name else bool(regression)
        numbers = _targets if is_targets else _as_given if source == ARRAYS else _numbered
        numbered, classes[name] = numbers(name, every)
        for split, labels in zip(SPLITS, numbered, strict=True):
            parts.setdefault(f"y_{split}", {})[name] = labels
    only = len(train.y) == 1
    y: dict[str, Targets] = {key: next(iter(of.values())) if only else of for key, of in parts.items()}
    x = [((part.x - offset) / divisor).astype(np.float32) for part in (train, valid, test)]
    return Dataset(
        name=source,
        x_train=x[0],
        y_train=y["y_train"],
        x_test=x[2],
        y_test=y["y_test"],
        x_valid=x[1] if len(x[1]) else None,
        y_valid=y["y_validation"] if len(x[1]) else None,
        class_names=next(iter(classes.values())) if only else classes,
        source=f"{source}: {len(x[0])} samples to train, {len(x[1])} to validate, {len(x[2])} to test",
        preparation={
            "columns": list(train.columns),
            "scaling": spec.scaling,
            "offset": np.ravel(offset).tolist(),
            "divisor": np.ravel(divisor).tolist(),
            "classes": {name: list(names) for name, names in classes.items()},
        },
    )


def _hold_strata(samples: _Raw, spec: SplitSpec, source: str, regression: Collection[str]) -> None:
    """Raise a DataError if a split is to be stratified by labels that are no classes: by the first ones."""
    name, labels = next(iter(samples.y.items()))
    targets = name in regression if name else bool(regression)
    if spec.stratified and (targets or (labels.dtype.kind == "f" and (labels != np.floor(labels)).any())):
        what = f"labels{f' {name!r}' if name else ''} are targets, and a stratified split is one by classes"
        remedy = "leave stratified out" + (", or name labels that are classes first" if len(samples.y) > 1 else "")
        raise DataError(what, file=source, remedy=remedy)


def _refuse_not_finite(samples: _Raw, source: str) -> None:
    """Raise a DataError if an input, or a label that is a fraction, is NaN or infinite; it names the column."""
    labels = [(f"labels{f' {name!r}' if name else ''}", values, ()) for name, values in samples.y.items()]
    with at(file=source):
        for name, values, columns in [("inputs", samples.x, samples.columns), *labels]:
            _hold_finite(name, values, columns)


def _hold_finite(name: str, values: NDArray[Any], columns: Sequence[str]) -> None:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    odd = ~np.isfinite(values)
    if values.ndim == 2 and len(columns) == values.shape[1]:
        first = int(odd.any(axis=0).argmax())
        name, odd = f"column {shown(columns[first])}", odd[:, first]
    what = f"{name}: {counted(np.count_nonzero(odd), 'value is', 'values are')} NaN or infinite"
    raise DataError(what, remedy="leave these rows out: no value is guessed")


def prepared(preparation: Mapping[str, Any], values: Any) -> NDArray[np.float32]:
    """Return inputs for a model of what the user measures: scaled as those were that it was trained on.

    Args:
        preparation: `Dataset.preparation`, or `TrainedModel.provenance["preparation"]`.
        values: a pandas frame with the columns of the training, or an array (samples, *shape).

    Raises:
        DataError: a column is missing, there are more or fewer, or a value is no number, NaN or infinite.
    """
    columns = list(preparation["columns"])
    if columns and hasattr(values, "columns"):
        if missing := [name for name in columns if name not in values.columns]:
            raise DataError(f"the frame lacks the columns {', '.join(missing)}", argument="values")
        values = values[columns]
    offset, divisor = (np.asarray(preparation[key], np.float64) for key in ("offset", "divisor"))
    with at(argument="values"):
        try:
            found = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"is no array of numbers ({shown(error)})", remedy="give numbers, (samples, ...)"
            ) from error
        shape = found.shape[1:]
        count = len(columns) or (offset.size if preparation["scaling"] != NONE else math.prod(shape))
        if found.ndim < 2 or math.prod(shape) != count or (columns and len(shape) != 1):
            wanted = (
                f"(samples, {count})"
                if columns
                else f"(samples, ...), {count} values a sample"
                if shape
                else "(samples, ...)"
            )
            raise DataError(f"has shape {found.shape}", remedy=f"expected {wanted}")
        _hold_finite("values", found, columns)
    if preparation["scaling"] != NONE:
        offset, divisor = offset.reshape(shape), divisor.reshape(shape)
    return np.asarray((found - offset) / divisor, np.float32)


def _splits(found: _Raw | tuple[_Raw, _Raw], spec: SplitSpec, source: str, column: str) -> tuple[_Raw, _Raw, _Raw]:
    """Return the samples to train, to validate and to test."""
    rest, test = found if isinstance(found, tuple) else (found, None)
    if rest.split is not None:
        said = rest.split.astype(str)
        if unknown := sorted({*said.tolist()} - {*SPLITS}):
            what = f"column '{column}' holds {shown(unknown[0])}"
            raise DataError(what, file=source, remedy=f"expected {', '.join(SPLITS)}")
        train, valid, test = (rest[said == name] for name in SPLITS)
        return train, valid, test
    count = len(rest.x)
    order = np.arange(count)
    if test is None:
        order, chosen = _drawn(spec, source, rest, order, spec.test)
        test = rest[chosen]
    order, chosen = _drawn(spec, source, rest, order, spec.validation * count / max(1, len(order)))
    return rest[order], rest[chosen], test


def _drawn(
    spec: SplitSpec, source: str, samples: _Raw, order: NDArray[Any], fraction: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return numbers of samples that stay, and of those drawn."""
    if not fraction:
        return order, order[:0]
    labels = next(iter(samples.y.values()))[order] if spec.stratified else None
    try:
        split = _sklearn("model_selection").train_test_split
        stay, drawn = split(order, test_size=fraction, random_state=spec.seed, stratify=labels)
    except ValueError as error:  # too few samples of a class, or at all
        what = f"cannot be split ({shown(error)})"
        raise DataError(what, file=source, remedy="change test or validation, or leave stratified out") from error
    return stay, drawn


def _read(spec: DataSpec) -> _Raw | tuple[_Raw, _Raw]:
    """Return all samples, or those to train and those to test where the user says which."""
    if spec.function is not None:
        return _of_function(spec.function)
    if spec.folder:
        train, classes = _of_folder(spec, spec.folder)
        if not spec.test_folder:
            return train
        test, others = _of_folder(spec, spec.test_folder)
        if set(others) - set(classes):
            what = f"has the classes {', '.join(sorted(set(others) - set(classes)))}, which '{spec.folder}' has not"
            raise DataError(what, file=spec.test_folder)
        return train, test
    found = _of_file(spec, spec.file)
    if not spec.test_file:
        return found
    test_samples = _of_file(spec, spec.test_file)
    if isinstance(found, tuple) or isinstance(test_samples, tuple):
        raise SpecError("data.test_file is given, but a file says its split itself", remedy="leave test_file out")
    return found, test_samples


def _of_function(function: FunctionSpec) -> _Raw | tuple[_Raw, _Raw]:
    """Return what a function of the user gives."""
    given = function.call()
    remedy = "return (x, y), or ((x, y), (x_test, y_test)); y may be a dict of arrays by name"
    if not isinstance(given, tuple) or len(given) != 2:
        raise DataError(f"returned {type(given).__name__}, not two things", field=function.name, remedy=remedy)
    pairs = given if all(isinstance(each, tuple) and len(each) == 2 for each in given) else (given,)
    samples = [_pair(x, y, function.name) for x, y in pairs]
    return samples[0] if len(samples) == 1 else (samples[0], samples[1])


def _pair(x: Any, y: Any, where: str) -> _Raw:
    labels = {
        str(name): np.asarray(each) for name, each in named(y if isinstance(y, Mapping) else np.asarray(y)).items()
    }
    columns = tuple(map(str, x.columns)) if hasattr(x, "columns") else ()
    found = np.asarray(x)
    if found.dtype.kind not in "fiub" or found.ndim < 2:
        what = f"inputs are {found.dtype} of shape {found.shape}"
        raise DataError(what, field=where, remedy="give numbers, (samples, ...)")
    for name, each in labels.items():
        if len(each) != len(found):
            of = f" {name!r}" if name else ""
            raise DataError(f"{len(found)} inputs but {len(each)} labels{of}", field=where)
    return _Raw(x=found, y=labels, columns=columns)


def _of_folder(spec: DataSpec, name: str) -> tuple[_Raw, tuple[str, ...]]:
    """Return the pictures of a folder and the names of their directories; values are k/256."""
    folder = spec.directory / name
    if not folder.is_dir():
        raise DataError("no such directory", file=folder)
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError("holds no directory with pictures", file=folder, remedy=f"expected CLASS/*{SUFFIXES[0]}")
    height, width = spec.size
    pictures = np.empty((len(files), height, width, spec.channels), np.float32)
    for row, file in enumerate(files):
        pixels, _ = read_resized(file, height, width)
        grey = spec.channels == 1
        pictures[row] = (pixels @ LUMA)[..., None] if grey else pixels
    labels = np.array([file.parent.name for file in files])
    return _Raw(x=np.rint(pictures) / 256, y={"": labels}), tuple(sorted(set(labels.tolist())))


LUMA = np.array([0.299, 0.587, 0.114])
"""Grey of red, green and blue (ITU-R BT.601)."""


def _of_file(spec: DataSpec, names: tuple[str, ...]) -> _Raw | tuple[_Raw, _Raw]:
    files = [spec.directory / name for name in names]
    if len(files) == 2:
        x, y = (read_arrays(file) for file in files)
        if isinstance(x, Mapping) or isinstance(y, Mapping):
            raise DataError("of two files each holds one array", file=str(spec), remedy="give .npy, or one .npz")
        return _pair(x, y, str(spec))
    if files[0].suffix.lower() in TABLES:
        with at(file=files[0]):
            features, labels, split, columns = read_table(files[0], spec.features, spec.labels, spec.split)
        return _Raw(x=features, y=labels, split=split, columns=columns)
    arrays = read_arrays(files[0])
    if not isinstance(arrays, Mapping):
        raise DataError("holds inputs and no labels", file=files[0], remedy='give file = ["x.npy", "y.npy"]')
    wanted = spec.labels or ("y",)
    given = "x_train" in arrays
    ends = ("_train", "_test") if given else ("",)
    for name in [f"{name}{end}" for end in ends for name in ("x", *wanted)]:
        if name not in arrays:
            held = ", ".join(map(shown, sorted(arrays)[:8]))
            raise DataError(f"has no array '{name}' but {held}", file=files[0], remedy="name the labels by data.labels")
    samples = [
        _pair(arrays[f"x{end}"], {name if spec.labels else "": arrays[f"{name}{end}"] for name in wanted}, str(spec))
        for end in ends
    ]
    return (samples[0], samples[1]) if given else samples[0]


# -- what is fitted


def _scaling(scaling: str, x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is subtracted from each feature and what it is divided by."""
    if scaling == NONE:
        return np.zeros(()), np.ones(())
    flat, shape = x.reshape(len(x), -1), x.shape[1:]
    preprocessing = _sklearn("preprocessing")
    if scaling == STANDARD:
        fitted = preprocessing.StandardScaler().fit(flat)
        return fitted.mean_.reshape(shape), fitted.scale_.reshape(shape)
    fitted = preprocessing.MinMaxScaler().fit(flat)
    return fitted.data_min_.reshape(shape), (1 / fitted.scale_).reshape(shape)


def _targets(name: str, parts: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
    if any(part.dtype.kind not in "fiub" for part in parts):
        raise DataError(f"labels {name!r} are no numbers", remedy="leave the task of their head 'classification'")
    return [part.astype(np.float32) for part in parts], ()


def _as_given(name: str, parts: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
    """Return classes that are numbers already: those of the outputs of a model."""
    low, high = min(int(part.min()) for part in parts if part.size), max(int(part.max()) for part in parts if part.size)
    if low < 0:
        raise DataError(f"labels{f' {name!r}' if name else ''} are {low} to {high}", remedy="number the classes from 0")
    return [part.astype(np.int64) for part in parts], tuple(map(str, range(high + 1)))


def _numbered(name: str, parts: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
    """Return the number of each class, and their names; all splits count, so that no class is unknown."""
    whole = np.concatenate([part.reshape(-1) for part in parts])
    if whole.dtype.kind == "O":
        whole = whole.astype(str)
    if whole.dtype.kind == "f":
        if not (whole == np.floor(whole)).all():
            what = f"labels{f' {name!r}' if name else ''} hold fractions"
            raise DataError(what, remedy="add [[heads]] with task = 'regression' for targets")
        whole = whole.astype(np.int64)
    names, numbers = np.unique(whole, return_inverse=True)
    ends = np.cumsum([part.size for part in parts])[:-1]
    split = np.split(numbers.reshape(-1).astype(np.int64), ends)
    return [each.reshape(part.shape) for each, part in zip(split, parts, strict=True)], tuple(map(str, names.tolist()))


def _sklearn(module: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        what = f"package 'scikit-learn' cannot be imported ({error})"
        raise ToolMissingError(what, remedy=f"run: {INSTALL_COMMAND}") from error
