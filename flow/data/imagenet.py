"""Folders of ImageNet (ILSVRC 2012) images: a subset as inputs and labels of a network.

    root/n01440764/n01440764_10026.JPEG      a directory for each class, named by its WordNet id
    root/ILSVRC2012_val_00000001.JPEG        or all images in one, with a file of labels

A line of the file of labels is the name of an image and its class: a WordNet id or a number from 0. Classes count from
0 in the order of their WordNet ids, as in `tf.keras.applications` and in Caffe's `val.txt`; the numbers in the
benchmark's own `ILSVRC2012_validation_ground_truth.txt` are in another order, so that file is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.data.images import SUFFIXES, check_style, preprocess, read_cropped, read_lines
from flow.errors import DataError, SpecError, counted

WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFolder:
    """Images as a network takes them.

    Attributes:
        inputs: (samples, crop, crop, 3) float32, preprocessed.
        labels: (samples,) int64: indices into `class_names`.
        class_names: WordNet ids, sorted, or as given; for a file of class numbers without, the numbers as text.
        files: (samples): where each came from.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[Path, ...]


def load_imagenet_folder(
    root: Path | str,
    *,
    samples: int | None = None,
    seed: int = 0,
    style: str = "caffe",
    shorter_side: int = 256,
    crop: int = 224,
    class_names: Sequence[str] | None = None,
    labels: Path | str | None = None,
) -> ImageFolder:
    """Load images of an ImageNet folder: shorter side to 256, the middle 224 x 224, preprocessed.

    Args:
        root: the directory, as this module's text says.
        samples: how many images, drawn by `seed` from all of them; None for all.
        seed: of the draw: the same folder and seed give the same images in the same order.
        style: preprocessing: "caffe" (ResNet50), "tf" (MobileNetV2), "unit" or "raw"; see `flow.data.images`.
        shorter_side: pixels of the shorter side after resizing.
        crop: pixels of the square that is kept.
        class_names: all classes that the network knows, in its order; needed if the folder holds not all of them.
            None for those of the folder, sorted.
        labels: the file of labels, for images that are not in directories by class.

    Returns:
        The images.

    Raises:
        DataError: a directory is missing or has no image, a class is not in `class_names`, an image is damaged, a line
            of the labels is malformed.
        SpecError: an argument is out of range or unknown.
        ToolMissingError: Pillow is not installed.
    """
    check_style(style)
    if samples is not None and samples < 1:
        raise SpecError(f"samples is {samples}", remedy="expected at least 1")
    if not 1 <= crop <= shorter_side:
        raise SpecError(f"crop {crop} is not within 1..{shorter_side}, the shorter side")
    root = Path(root)
    if not root.is_dir():
        raise DataError("no such directory", file=root, remedy="expected one with a directory of images for each class")
    files, said = _by_directory(root) if labels is None else _by_file(root, Path(labels))
    names, numbers = _classes(said, class_names, root)
    count = len(files) if samples is None else samples
    if count > len(files):
        raise DataError(
            f"{counted(count, 'image was', 'images were')} asked for, but there are {len(files)}",
            file=root,
            remedy="ask for fewer",
        )
    drawn = range(count) if samples is None else np.random.default_rng(seed).choice(len(files), count, replace=False)
    inputs = np.empty((count, crop, crop, 3), np.float32)
    for row, number in enumerate(drawn):
        inputs[row] = preprocess(read_cropped(files[number], shorter_side, crop), style)
    return ImageFolder(
        inputs=inputs,
        labels=numbers[np.asarray(drawn)],
        class_names=names,
        files=tuple(files[number] for number in drawn),
    )


def _by_directory(root: Path) -> tuple[list[Path], list[str]]:
    directories = sorted(path for path in root.iterdir() if path.is_dir() and WORDNET_ID.fullmatch(path.name))
    if not directories:
        remedy = "give the directory above the classes, or a file of labels with `labels`"
        raise DataError("holds no directory named by a WordNet id, like n01440764", file=root, remedy=remedy)
    files, said = list[Path](), list[str]()
    for directory in directories:
        images = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
        if not images:
            remedy = "remove the empty class or fill it"
            raise DataError(f"holds no image ({', '.join(SUFFIXES)})", file=directory, remedy=remedy)
        files += images
        said += [directory.name] * len(images)
    return files, said


def _by_file(root: Path, path: Path) -> tuple[list[Path], list[str]]:
    files, said = list[Path](), list[str]()
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2 or not (words[1].isdecimal() or WORDNET_ID.fullmatch(words[1])):
            remedy = "expected a file name and a WordNet id or class number"
            raise DataError(f"line {number} is {line[:60]!r}", file=path, remedy=remedy)
        if len(words[1]) > 9 or words[1].isdecimal() != (said or words[1:])[0].isdecimal():
            raise DataError(f"line {number}: class {words[1]!r} is not of the kind of those before it", file=path)
        files.append(root / words[0])
        said.append(words[1])
    if not files:
        raise DataError("holds no labels", file=path, remedy="expected lines of a file name and a class")
    return files, said


def _classes(said: Sequence[str], given: Sequence[str] | None, root: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of all classes, and the number of each image's."""
    if given is not None and len(set(given)) != len(given):
        raise SpecError("class_names names a class twice")
    if said[0].isdecimal():
        labels = np.array([int(word) for word in said], np.int64)
        names = tuple(str(number) for number in range(labels.max() + 1)) if given is None else tuple(given)
        if labels.max() >= len(names):
            what = f"class number {labels.max()} is not below {len(names)}, the length of class_names"
            raise DataError(what, file=root)
        return names, labels
    names = tuple(sorted(set(said)) if given is None else given)
    if unknown := sorted(set(said) - set(names)):
        raise DataError(f"class {unknown[0]} is not in the class_names that were given", file=root)
    return names, np.array([names.index(word) for word in said], np.int64)
