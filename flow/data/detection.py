"""Object detection on an integer feature map: from codes to boxes, suppression of doubles, average precision.

The network's last layer gives a grid of cells. In the manner of YOLO and SqueezeDet, the cell in which the middle of an
object lies is responsible for it; there are no anchors, and one object per cell. Its channels, in this order:

    objectness              larger is surer; the score of the box
    a number for each class the largest names the class
    dx, dy                  from the middle of the cell to that of the box, in cells
    w, h                    of the box, in cells (not their logarithm; negative ones are taken as 0)

No channel passes a sigmoid, softmax or exponential: class and order follow from the codes alone, and a box is a sum of
integers times a power of two and the size of a cell. So boxes are exact in float64, and equal codes give equal boxes.

Boxes are (left, top, right, bottom) in pixels of the network's input, float64; the area is width times height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, SpecError
from flow.ir.fixed import Codes, FixedFormat, to_values

Floats = NDArray[np.float64]

RECALLS: Mapping[str, tuple[Fraction, ...]] = {
    "kitti": tuple(Fraction(step, 40) for step in range(1, 41)),
    "voc": tuple(Fraction(step, 10) for step in range(11)),
}
"""Recalls at which the precision is averaged: KITTI's 40 points (since 2019), PASCAL VOC 2007's 11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionHead:
    """How to read the feature map.

    Attributes:
        classes: their names, in the order of the channels.
        cell: height and width of a cell in pixels: the stride of the network.
        threshold: boxes of a lower objectness are no detections.
    """

    classes: tuple[str, ...]
    cell: tuple[int, int]
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.classes or min(self.cell) < 1:
            what = f"detection head: classes {self.classes}, cell {self.cell}"
            raise SpecError(what, remedy="expected one or more, 1 or more")

    @property
    def channels(self) -> int:
        """The number of channels."""
        return 5 + len(self.classes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """What a detector says of one image.

    Attributes:
        boxes: (n, 4) float64.
        classes: (n,) int64.
        scores: (n,) float64; only their order matters.
    """

    boxes: Floats
    classes: NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What is in one image.

    Attributes:
        boxes: (n, 4) float64.
        classes: (n,) int64.
        ignored: (n,) bool: objects that are neither found nor missed, such as those beyond a difficulty.
        dont_care: (m, 4) float64: regions in which detections do not count.
        min_height: detections lower than this, in pixels, do not count.
    """

    boxes: Floats
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    dont_care: Floats
    min_height: float = 0.0


def decode(codes: Codes, fmt: FixedFormat, head: DetectionHead) -> tuple[Detections, ...]:
    """Return the boxes that an integer feature map says, at most one per cell.

    Args:
        codes: (samples, rows, columns, channels) int64: codes of `fmt`.
        fmt: their format.
        head: what the channels mean.

    Returns:
        For each sample its detections, the surest first; equally sure ones in the order of the cells.

    Raises:
        DataError: the shape is not that of the head.

    Example:
        >>> head = DetectionHead(classes=("car",), cell=(8, 8))
        >>> codes = np.array([[[[4, 0, 2, -2, 8, 4]]]])  # objectness, car, dx, dy, w, h in quarters
        >>> decode(codes, FixedFormat(True, 3, 2), head)[0].boxes.tolist()
        [[0.0, -4.0, 16.0, 4.0]]
    """
    return decode_values(to_values(codes, fmt), head)


def decode_values(values: NDArray[np.floating], head: DetectionHead) -> tuple[Detections, ...]:
    """Return the boxes that a feature map of values says, as `decode` does for codes.

    Args:
        values: (samples, rows, columns, channels).
        head: what the channels mean.

    Raises:
        DataError: the shape is not that of the head.
    """
    if values.ndim != 4 or values.shape[3] != head.channels:
        channels = f"{head.channels}): objectness, {len(head.classes)} classes, dx, dy, w, h"
        raise DataError(f"feature map has shape {values.shape}", remedy=f"expected (samples, rows, columns, {channels}")
    return tuple(_decoded(sample.astype(np.float64), head) for sample in values)


def _decoded(sample: Floats, head: DetectionHead) -> Detections:
    rows, columns = np.nonzero(sample[..., 0] >= head.threshold)
    cells = sample[rows, columns]
    order = np.argsort(-cells[:, 0], kind="stable")
    rows, columns, cells = rows[order], columns[order], cells[order]
    dx, dy, width, height = cells[:, -4:].T
    down, across = head.cell
    middle = np.stack([(columns + 0.5 + dx) * across, (rows + 0.5 + dy) * down], axis=1)
    half = np.stack([np.maximum(width, 0) * across, np.maximum(height, 0) * down], axis=1) / 2
    return Detections(
        boxes=np.concatenate([middle - half, middle + half], axis=1),
        classes=np.argmax(cells[:, 1:-4], axis=1).astype(np.int64),
        scores=cells[:, 0],
    )


def encode(truth: Truth, head: DetectionHead, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return the feature map that says what is in an image: what to train towards.

    Args:
        truth: the objects; of two with their middle in one cell the larger is kept.
        head: what the channels mean.
        grid: rows and columns of the map.

    Returns:
        (rows, columns, channels) float32: objectness 1, or 0 without an object, or -1 in the cell of an ignored one;
        1 for the class, 0 for the others; dx, dy, w, h.
    """
    rows, columns = grid
    down, across = head.cell
    targets = np.zeros((rows, columns, head.channels), np.float32)
    for number in np.argsort(_areas(truth.boxes), kind="stable"):
        left, top, right, bottom = truth.boxes[number]
        x, y = (left + right) / 2 / across, (top + bottom) / 2 / down
        if 0 <= x < columns and 0 <= y < rows:
            cell = targets[int(y), int(x)]
            cell[:] = 0
            cell[0] = -1 if truth.ignored[number] else 1
            cell[1 + truth.classes[number]] = 1
            cell[-4:] = x - int(x) - 0.5, y - int(y) - 0.5, (right - left) / across, (bottom - top) / down
    return targets


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Return the intersection over union of each box with each other box.

    Args:
        boxes: (n, 4).
        others: (m, 4).

    Returns:
        (n, m) float64; 0 where both are empty.
    """
    common = _intersections(boxes, others)
    union = _areas(boxes)[:, None] + _areas(others)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def suppress(detections: Detections, iou_threshold: float = 0.5) -> Detections:
    """Return the detections without those that overlap a surer one of their class by more than a threshold.

    Args:
        detections: of one image, in any order.
        iou_threshold: intersection over union.

    Returns:
        What is kept, the surest first.
    """
    order = np.argsort(-detections.scores, kind="stable")
    boxes, classes = detections.boxes[order], detections.classes[order]
    doubled = (overlaps(boxes, boxes) > iou_threshold) & (classes[:, None] == classes)
    kept = np.ones(len(order), bool)
    for number in range(len(order)):
        if kept[number]:
            kept[number + 1 :] &= ~doubled[number, number + 1 :]
    return Detections(boxes=boxes[kept], classes=classes[kept], scores=detections.scores[order][kept])


def average_precision(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    class_number: int,
    iou_threshold: float,
    recalls: str = "kitti",
) -> float:
    """Return the average precision of one class over images.

    In each image the detections, the surest first, each take the object of the class that they overlap most, by more
    than the threshold, and that none took before; objects that count come before ignored ones. What takes an ignored
    object, is lower than `Truth.min_height`, or lies by more than the threshold of its own area in a `dont_care`
    region does not count; the rest is wrong. The precision at a recall is the largest at that recall or a higher one.
    Detections of equal scores count together, so their order does not matter.

    KITTI's own program differs in that it matches anew at 41 score thresholds that it picks from the recalls; for many
    objects both come to the same.

    Args:
        detections: one per image.
        truths: one per image.
        class_number: the class.
        iou_threshold: intersection over union beyond which a detection has found an object.
        recalls: "kitti" (1/40 to 1 in steps of 1/40) or "voc" (0 to 1 in steps of 1/10).

    Returns:
        A fraction; NaN if no object of the class counts.

    Raises:
        DataError: there are not as many detections as truths.
        SpecError: there is no such list of recalls.
    """
    if recalls not in RECALLS:
        raise SpecError(f"recalls '{recalls}' is unknown", remedy=f"expected one of {', '.join(RECALLS)}")
    if len(detections) != len(truths):
        raise DataError(f"detections of {len(detections)} images, but truths of {len(truths)}")
    count = sum(int(np.count_nonzero((truth.classes == class_number) & ~truth.ignored)) for truth in truths)
    if count == 0:
        return float("nan")
    matched = [_matched(*pair, class_number, iou_threshold) for pair in zip(detections, truths, strict=True)]
    scores = np.concatenate([part for part, _ in matched])
    right = np.concatenate([part for _, part in matched])
    order = np.argsort(-scores, kind="stable")
    last_of_equals = np.append(np.diff(scores[order]) != 0, True)[: len(order)]
    hits = np.cumsum(right[order])[last_of_equals]
    precisions = hits / (np.flatnonzero(last_of_equals) + 1)
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    at = [int(np.searchsorted(hits, -(-recall.numerator * count // recall.denominator))) for recall in RECALLS[recalls]]
    return float(np.mean([best[place] if place < len(best) else 0.0 for place in at]))


def mean_average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], iou_thresholds: Sequence[float], recalls: str = "kitti"
) -> float:
    """Return the mean of the average precisions of the classes of which objects count.

    Args:
        detections, truths, recalls: as of `average_precision`.
        iou_thresholds: one per class.

    Returns:
        A fraction.

    Raises:
        DataError: no object of any class counts, or as `average_precision`.
        SpecError: as `average_precision`.
    """
    by_threshold = [
        average_precision(detections, truths, number, iou, recalls) for number, iou in enumerate(iou_thresholds)
    ]
    there = [precision for precision in by_threshold if not np.isnan(precision)]
    if not there:
        raise DataError(f"no object of the {len(iou_thresholds)} classes counts in {len(truths)} images")
    return float(np.mean(there))


def _matched(
    detections: Detections, truth: Truth, class_number: int, iou_threshold: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the scores of the detections that count, and which of them found an object."""
    chosen = np.flatnonzero(detections.classes == class_number)
    chosen = chosen[np.argsort(-detections.scores[chosen], kind="stable")]
    boxes, scores = detections.boxes[chosen], detections.scores[chosen]
    objects = truth.classes == class_number
    ignored, free = truth.ignored[objects], np.ones(np.count_nonzero(objects), bool)
    overlap = overlaps(boxes, truth.boxes[objects])
    inside = _intersections(boxes, truth.dont_care) > iou_threshold * _areas(boxes)[:, None]
    counted, right = boxes[:, 3] - boxes[:, 1] >= truth.min_height, np.zeros(len(boxes), bool)
    for number in np.flatnonzero(counted):
        near = free & (overlap[number] > iou_threshold)
        near = near & ~ignored if (near & ~ignored).any() else near
        if near.any():
            taken = int(np.argmax(np.where(near, overlap[number], -1)))
            free[taken] = False
            right[number], counted[number] = not ignored[taken], not ignored[taken]
        elif inside[number].any():
            counted[number] = False
    return scores[counted], right[counted]


def _intersections(boxes: Floats, others: Floats) -> Floats:
    start = np.maximum(boxes[:, None, :2], others[None, :, :2])
    end = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.prod(np.maximum(end - start, 0), axis=2))


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
