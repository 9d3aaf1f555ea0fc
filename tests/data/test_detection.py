"""Detection: codes to boxes without rounding, suppression, and average precision by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.data.detection import (
    DetectionHead,
    Detections,
    Truth,
    average_precision,
    decode,
    decode_values,
    encode,
    mean_average_precision,
    overlaps,
    suppress,
)
from flow.errors import DataError, SpecError
from flow.ir.fixed import FixedFormat

HEAD = DetectionHead(classes=("car", "person"), cell=(8, 16))


def array(boxes: Any) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)


def found(*rows: tuple[tuple[float, ...], int, float]) -> Detections:
    """Make detections of (box, class, score)."""
    boxes, classes, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(boxes=array(boxes), classes=np.array(classes, np.int64), scores=np.array(scores, np.float64))


def there(
    *rows: tuple[tuple[float, ...], int],
    ignored: Sequence[int] = (),
    dont_care: Sequence[tuple[float, ...]] = (),
    min_height: float = 0.0,
) -> Truth:
    """Make a truth of (box, class)."""
    return Truth(
        boxes=array([box for box, _ in rows]),
        classes=np.array([number for _, number in rows], np.int64),
        ignored=np.isin(np.arange(len(rows)), ignored),
        dont_care=array(dont_care),
        min_height=min_height,
    )


def box(left: float, top: float = 0, width: float = 10, height: float = 10) -> tuple[float, ...]:
    return left, top, left + width, top + height


# from codes to boxes


def test_a_cell_by_hand() -> None:
    codes = np.full((1, 2, 3, 7), -1)
    codes[0, 1, 2] = [5, 3, 4, 2, -1, 6, 8]  # quarters: middle (2.5 + 0.5, 1.5 - 0.25) cells, 1.5 x 2 cells
    (said,) = decode(codes, FixedFormat(True, 3, 2), HEAD)
    assert said.boxes.tolist() == [[48 - 12, 10 - 8, 48 + 12, 10 + 8]]
    assert (said.classes.tolist(), said.scores.tolist()) == ([1], [1.25])


def test_order_threshold_and_degenerate_boxes() -> None:
    codes = np.zeros((2, 1, 4, 7), np.int64)
    codes[0, 0, :, 0] = [1, 3, 3, -1]
    codes[0, 0, :, -2] = [-4, 4, 8, 4]  # a negative width is none
    codes[1, 0, :, 0] = -1
    first, second = decode(codes, FixedFormat(True, 3, 2), HEAD)
    assert first.scores.tolist() == [0.75, 0.75, 0.25] and first.boxes[:, 0].tolist() == [16.0, 24.0, 8.0]
    assert first.boxes[2].tolist() == [8, 4, 8, 4] and second.boxes.shape == (0, 4)
    strict = DetectionHead(classes=HEAD.classes, cell=HEAD.cell, threshold=0.5)
    assert decode(codes, FixedFormat(True, 3, 2), strict)[0].scores.tolist() == [0.75, 0.75]


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=7, max_size=7), st.integers(-4, 20))
def test_decoding_is_exact(codes: list[int], frac_bits: int) -> None:
    fmt = FixedFormat(True, 15 - frac_bits, frac_bits)
    head = DetectionHead(classes=HEAD.classes, cell=HEAD.cell, threshold=float("-inf"))
    said = decode(np.array([[[codes, codes]]]), fmt, head)[0]
    step = Fraction(2) ** -frac_bits
    dx, dy, width, height = (code * step for code in codes[-4:])
    for column, got in enumerate(said.boxes.tolist()):
        x, y = (column + Fraction(1, 2) + dx) * 16, (Fraction(1, 2) + dy) * 8
        right, down = max(width, Fraction(0)) * 8, max(height, Fraction(0)) * 4
        assert [Fraction(each) for each in got] == [x - right, y - down, x + right, y + down]


def test_what_is_encoded_is_decoded() -> None:
    truth = there((box(3, 1, 20, 12), 1), (box(40, 9, 4, 3), 0), (box(20, 20, 6, 6), 0), ignored=[2])
    targets = encode(truth, HEAD, (3, 3))
    assert targets.shape == (3, 3, 7) and targets.dtype == np.float32
    (said,) = decode_values(targets[None], DetectionHead(classes=HEAD.classes, cell=HEAD.cell, threshold=0.5))
    assert said.boxes.tolist() == [list(box(3, 1, 20, 12)), list(box(40, 9, 4, 3))] and said.classes.tolist() == [1, 0]
    assert targets[2, 1, 0] == -1 and np.count_nonzero(targets[..., 0]) == 3


def test_the_larger_of_two_objects_in_a_cell_is_kept_and_none_outside() -> None:
    truth = there((box(0, 0, 6, 6), 0), (box(1, 1, 8, 4), 1), (box(44, 0, 20, 6), 0), (box(-9, 0, 10, 6), 0))
    targets = encode(truth, HEAD, (1, 3))
    assert targets[0, 0, :3].tolist() == [1, 1, 0] and np.count_nonzero(targets[..., 0]) == 1


@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 2, 3, 6)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected \(samples, rows, columns, 7\): objectness, 2 classes, dx"):
        decode(np.zeros(shape, np.int64), FixedFormat(True, 3, 2), HEAD)


@pytest.mark.parametrize("wrong", [{"classes": ()}, {"cell": (0, 8)}])
def test_wrong_heads_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="detection head"):
        DetectionHead(**{"classes": ("car",), "cell": (8, 8), **wrong})


# overlaps and suppression


def test_overlaps_by_hand() -> None:
    one, empty = box(0), (3, 3, 3, 3)
    others = [box(0), box(5), box(0, 0, 5, 5), box(10), box(20), empty]
    assert overlaps(array([one]), array(others)).tolist() == [[1, 50 / 150, 0.25, 0, 0, 0]]
    assert overlaps(array([empty]), array([empty])).tolist() == [[0]]
    assert overlaps(array([]), array([one])).shape == (0, 1)


def test_suppression_keeps_the_surest_of_each_class() -> None:
    said = found((box(0), 0, 1.0), (box(1), 0, 3.0), (box(1), 1, 2.0), (box(2), 0, 2.5), (box(30), 0, -1.0))
    kept = suppress(said)
    assert kept.scores.tolist() == [3.0, 2.0, -1.0] and kept.classes.tolist() == [0, 1, 0]
    assert suppress(said, 0.9).scores.tolist() == [3.0, 2.5, 2.0, 1.0, -1.0]
    assert suppress(found()).boxes.shape == (0, 4)


def test_what_was_suppressed_suppresses_nothing() -> None:
    chain = found((box(0), 0, 3.0), (box(3), 0, 2.0), (box(6), 0, 1.0))  # neighbours overlap by 7/13, the ends by 4/16
    assert suppress(chain).scores.tolist() == [3.0, 1.0]


# average precision


def precision(said: Detections, truth: Truth, recalls: str = "kitti", iou: float = 0.5) -> float:
    return average_precision([said], [truth], 0, iou, recalls)


def test_all_found_none_found_nothing_there() -> None:
    truth = there((box(0), 0), (box(50), 0))
    assert precision(found((box(0), 0, 1), (box(50), 0, 2)), truth) == 1
    assert precision(found((box(20), 0, 1)), truth) == precision(found(), truth) == 0
    assert np.isnan(precision(found((box(0), 0, 1)), there((box(0), 1))))


def test_a_curve_by_hand() -> None:
    """Right, wrong, right of two objects: precision 1 up to recall 1/2, then 2/3."""
    truth = there((box(0), 0), (box(50), 0))
    said = found((box(0), 0, 3), (box(100), 0, 2), (box(50), 0, 1))
    assert precision(said, truth) == pytest.approx((20 * 1 + 20 * 2 / 3) / 40)
    assert precision(said, truth, "voc") == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_recalls_that_are_not_reached_count_as_zero() -> None:
    truth = there(*((box(50 * number), 0) for number in range(3)))
    said = found((box(0), 0, 1))  # recall 1/3: 13 of the 40, and 0, 0.1, 0.2, 0.3
    assert precision(said, truth) == 13 / 40 and precision(said, truth, "voc") == pytest.approx(4 / 11)


def test_a_later_higher_precision_counts_for_lower_recalls() -> None:
    truth = there((box(0), 0), (box(50), 0))
    said = found((box(100), 0, 3), (box(0), 0, 2), (box(50), 0, 1))  # 1/2 then 2/3
    assert precision(said, truth) == pytest.approx(2 / 3)


def test_an_object_is_found_once() -> None:
    said = found((box(0), 0, 2), (box(1), 0, 1))
    assert precision(said, there((box(0), 0), (box(50), 0))) == 20 / 40
    both = there((box(0), 0), (box(1), 0))
    assert precision(said, both) == 1  # each the one it overlaps most


def test_overlap_must_exceed_the_threshold() -> None:
    half = found((box(0, 0, 10, 5), 0, 1))
    assert precision(half, there((box(0), 0)), iou=0.5) == 0 and precision(half, there((box(0), 0)), iou=0.49) == 1


def test_ignored_objects_are_neither_found_nor_missed() -> None:
    truth = there((box(0), 0), (box(50), 0), ignored=[1])
    assert precision(found((box(0), 0, 1)), truth) == 1
    assert precision(found((box(50), 0, 2), (box(0), 0, 1)), truth) == 1
    twice = found((box(50), 0, 3), (box(50), 0, 2), (box(0), 0, 1))  # the second of them is wrong
    assert precision(twice, truth) == 0.5
    crowded = there((box(0), 0), (box(1), 0), ignored=[0])  # what counts is preferred, though it overlaps less
    assert precision(found((box(0), 0, 1)), crowded) == 1


def test_regions_and_low_boxes_do_not_count() -> None:
    truth = there((box(0), 0), dont_care=[box(100, 0, 40, 40)], min_height=8)
    for beside in (box(110, 10), box(96), box(200, 0, 20, 7)):
        assert precision(found((beside, 0, 2), (box(0), 0, 1)), truth) == 1, beside
    for beside in (box(94), box(200)):
        assert precision(found((beside, 0, 2), (box(0), 0, 1)), truth) == 0.5, beside


def test_images_are_matched_apart_and_ranked_together() -> None:
    truths = [there((box(0), 0)), there((box(50), 0))]
    said = [found((box(50), 0, 3), (box(0), 0, 1)), found((box(50), 0, 2))]
    assert average_precision(said, truths, 0, 0.5) == pytest.approx(2 / 3)


def test_equal_scores_count_together() -> None:
    truth = there((box(0), 0), (box(50), 0))
    rows = [(box(0), 0, 1.0), (box(100), 0, 1.0), (box(50), 0, 1.0)]
    assert {precision(found(*order), truth) for order in itertools.permutations(rows)} == {2 / 3}


def test_the_mean_is_over_classes_that_are_there() -> None:
    truths, said = [there((box(0), 0), (box(0), 1))], [found((box(0), 0, 1), (box(3), 1, 1))]
    assert mean_average_precision(said, truths, (0.7, 0.5)) == 1
    assert mean_average_precision(said, truths, (0.7, 0.7)) == 0.5
    assert mean_average_precision(said, truths, (0.7, 0.5, 0.5)) == 1
    with pytest.raises(DataError, match="no object of the 2 classes counts in 1 images"):
        mean_average_precision(said, [there()], (0.7, 0.5))


def test_wrong_use() -> None:
    with pytest.raises(SpecError, match="recalls 'coco' is unknown; expected one of kitti, voc"):
        precision(found(), there(), "coco")
    with pytest.raises(DataError, match="detections of 1 images, but truths of 2"):
        average_precision([found()], [there(), there()], 0, 0.5)
