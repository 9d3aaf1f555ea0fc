"""KITTI's object detection: images, labels, and which of the labels each difficulty counts.

    root/training/image_2/000000.png
    root/training/label_2/000000.txt

A line of labels has 15 columns, as the benchmark's development kit describes them (`readme.txt`): type, truncated,
occluded, alpha; left, top, right, bottom of the box in pixels from 0; height, width, length, x, y, z in metres;
rotation_y. Type `DontCare` marks a region in which detections do not count.

The rules by which an object counts are those of the kit's `evaluate_object.cpp`: `DIFFICULTIES`, `NEIGHBOURS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.data.detection import Truth
from flow.data.images import check_style, preprocess, read_lines, read_resized
from flow.errors import DataError, SpecError, at, counted

DONT_CARE = "DontCare"
TYPES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", DONT_CARE)
CLASSES = ("Car", "Pedestrian", "Cyclist")
"""What the benchmark evaluates."""
IOU_THRESHOLDS: Mapping[str, float] = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
"""By how much a detection must overlap an object (intersection over union)."""
NEIGHBOURS: Mapping[str, str] = {"Van": "Car", "Person_sitting": "Pedestrian"}
"""Types that may be taken for a class: they are neither found nor missed."""
COLUMNS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """Which objects count: at least so high, at most so occluded and truncated."""

    min_height: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES: Mapping[str, Difficulty] = {
    "easy": Difficulty(min_height=40, max_occlusion=0, max_truncation=0.15),
    "moderate": Difficulty(min_height=25, max_occlusion=1, max_truncation=0.30),
    "hard": Difficulty(min_height=25, max_occlusion=2, max_truncation=0.50),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KittiObject:
    """A line of labels.

    Attributes:
        type: one of `TYPES`.
        truncation: 0 (whole) to 1 (outside the image); -1 for `DontCare`.
        occlusion: 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 for `DontCare`.
        alpha: angle of observation in radians.
        box: left, top, right, bottom in pixels of the image.
        dimensions: height, width, length in metres.
        location: x, y, z in metres, in the camera's coordinates.
        rotation_y: in radians.
    """

    type: str
    truncation: float
    occlusion: int
    alpha: float
    box: tuple[float, float, float, float]
    dimensions: tuple[float, float, float]
    location: tuple[float, float, float]
    rotation_y: float

    def counts(self, difficulty: Difficulty) -> bool:
        """Say whether a difficulty counts the object: as found or as missed."""
        return (
            self.occlusion <= difficulty.max_occlusion
            and self.truncation <= difficulty.max_truncation
            and self.box[3] - self.box[1] >= difficulty.min_height
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KittiImages:
    """Images as a network takes them, with their labels.

    Attributes:
        inputs: (samples, height, width, 3) float32, stretched to one size and preprocessed.
        sizes: (samples, 2) int64: height and width of each image before that.
        objects: for each image the lines of its labels; boxes in pixels of the image before it was stretched.
        names: of the files, without suffix.
    """

    inputs: NDArray[np.float32]
    sizes: NDArray[np.int64]
    objects: tuple[tuple[KittiObject, ...], ...]
    names: tuple[str, ...]

    def truths(self, difficulty: str, classes: Sequence[str] = CLASSES) -> tuple[Truth, ...]:
        """Return what a detector should find in each image, in pixels of `inputs`.

        Args:
            difficulty: "easy", "moderate" or "hard": objects beyond it are neither found nor missed. It looks at the
                height of a box before the image was stretched.
            classes: types to find; the others are left out but for `NEIGHBOURS` and `DontCare`.

        Raises:
            SpecError: there is no such difficulty.
        """
        if difficulty not in DIFFICULTIES:
            known = ", ".join(DIFFICULTIES)
            raise SpecError(f"difficulty '{difficulty}' is unknown", remedy=f"expected one of {known}")
        height, width = self.inputs.shape[1:3]
        return tuple(
            _truth(objects, classes, DIFFICULTIES[difficulty], (height / rows, width / columns))
            for objects, (rows, columns) in zip(self.objects, self.sizes.tolist(), strict=True)
        )


def load_kitti(
    root: Path | str, *, height: int, width: int, samples: int | None = None, seed: int = 0, style: str = "unit"
) -> KittiImages:
    """Load images and labels of KITTI's object detection.

    Args:
        root: the directory that holds `training`.
        height, width: of the network's input; images are stretched to it (bilinear).
        samples: how many images, drawn by `seed` from all of them; None for all, in the order of their names.
        seed: of the draw.
        style: preprocessing: "caffe", "tf", "unit" or "raw"; see `flow.data.images`.

    Returns:
        The images and their labels.

    Raises:
        DataError: a directory or file is missing, an image is damaged, a line of labels is malformed.
        SpecError: an argument is out of range or unknown.
        ToolMissingError: Pillow is not installed.
    """
    check_style(style)
    if min(height, width) < 1 or (samples is not None and samples < 1):
        raise SpecError(f"height {height}, width {width}, samples {samples}", remedy="expected at least 1 each")
    images, labels = Path(root) / "training" / "image_2", Path(root) / "training" / "label_2"
    for directory in (images, labels):
        if not directory.is_dir():
            remedy = f"expected training/image_2 and training/label_2 in {root}"
            raise DataError("no such directory", file=directory, remedy=remedy)
    files = sorted(images.glob("*.png"))
    count = len(files) if samples is None else samples
    if not files or count > len(files):
        raise DataError(
            f"holds {counted(len(files), 'image')} (*.png), fewer than the {max(count, 1)} needed", file=images
        )
    if samples is not None:
        files = [files[number] for number in np.random.default_rng(seed).choice(len(files), count, replace=False)]
    inputs, sizes = np.empty((count, height, width, 3), np.float32), np.empty((count, 2), np.int64)
    for row, file in enumerate(files):
        pixels, sizes[row] = read_resized(file, height, width)
        inputs[row] = preprocess(pixels, style)
    return KittiImages(
        inputs=inputs,
        sizes=sizes,
        objects=tuple(read_labels(labels / f"{file.stem}.txt") for file in files),
        names=tuple(file.stem for file in files),
    )


def read_labels(path: Path) -> tuple[KittiObject, ...]:
    """Return the objects of a file of labels; an empty file is an image without any.

    Raises:
        DataError: the file is missing, or a line is malformed (the message gives its number).
    """
    objects = list[KittiObject]()
    for number, line in read_lines(path):
        with at(file=path, field=f"line {number}"):
            objects.append(_object(line.split()))
    return tuple(objects)


def _object(words: Sequence[str]) -> KittiObject:
    if len(words) != COLUMNS:
        raise DataError(f"has {counted(len(words), 'column')}", remedy=f"expected {COLUMNS}")
    if words[0] not in TYPES:
        raise DataError(f"type {words[0][:30]!r} is unknown", remedy=f"expected one of {', '.join(TYPES)}")
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as error:
        raise DataError(f"holds what is no number ({error})") from error
    if not all(map(math.isfinite, numbers)) or numbers[1] not in (-1, 0, 1, 2, 3):
        raise DataError(f"occlusion {words[2]} is not -1, 0, 1, 2 or 3, or a number is not finite")
    truncation, occlusion, alpha, left, top, right, bottom, *metres, rotation_y = numbers
    if right < left or bottom < top:
        raise DataError(f"box {left:g} {top:g} {right:g} {bottom:g} ends before it starts (left top right bottom)")
    return KittiObject(
        type=words[0],
        truncation=truncation,
        occlusion=int(occlusion),
        alpha=alpha,
        box=(left, top, right, bottom),
        dimensions=(metres[0], metres[1], metres[2]),
        location=(metres[3], metres[4], metres[5]),
        rotation_y=rotation_y,
    )


def _truth(
    objects: Sequence[KittiObject], classes: Sequence[str], difficulty: Difficulty, scale: tuple[float, float]
) -> Truth:
    down, across = scale
    boxes, numbers, ignored, dont_care = [], [], [], []
    for labelled in objects:
        box = np.multiply(labelled.box, (across, down, across, down))
        name = NEIGHBOURS.get(labelled.type, labelled.type)
        if labelled.type == DONT_CARE:
            dont_care.append(box)
        elif labelled.type in classes or name in classes:
            neighbour = labelled.type not in classes
            boxes.append(box)
            numbers.append(classes.index(name if neighbour else labelled.type))
            ignored.append(neighbour or not labelled.counts(difficulty))
    return Truth(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        classes=np.array(numbers, np.int64),
        ignored=np.array(ignored, bool),
        dont_care=np.array(dont_care, np.float64).reshape(-1, 4),
        min_height=difficulty.min_height * down,
    )
