"""Labels: told apart as classes or targets by type and shape, and outputs measured beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import Net

from flow.data.labels import Head, Labels, classes_of, read_labels, threshold, told_apart
from flow.errors import DataError
from flow.ir.fixed import Cast, FixedFormat

ONE_HOT = np.eye(3)[[2, 0, 1]]
SIGNED, UNSIGNED = FixedFormat(True, 1, 2), FixedFormat(False, 1, 2)


def read(tmp_path: Path, content: Any, *heads: Head) -> tuple[Labels, ...]:
    """Return what is made of labels in a file: text is a table, a dictionary an archive."""
    path = tmp_path / ("y.csv" if isinstance(content, str) else "y.npz" if isinstance(content, dict) else "y.npy")
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    return told_apart(read_labels(path, 3), heads)


CLASSES: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "numbers": (np.array([2, 0, 1], "u1"), (3,), [2, 0, 1]),
    "a column": (np.array([[2], [0], [1]]), (3,), [2, 0, 1]),
    "of a feature map": (np.array([11, 0, 1]), (2, 2, 3), [11, 0, 1]),
    "one-hot": (ONE_HOT.astype(int), (3,), [2, 0, 1]),
    "one-hot floats": (ONE_HOT.astype("f4"), (3,), [2, 0, 1]),
    "one-hot table": ("0,0,1\n1,0,0\n0,1,0\n", (3,), [2, 0, 1]),
    "table": ("kind\n2\n0\n1\n", (3,), [2, 0, 1]),
    "binary": (np.array([1, 0, 1]), (1,), [1, 0, 1]),
    "binary floats": (np.array([[1.0], [0.0], [1.0]]), (1,), [1, 0, 1]),
    "binary truth": (np.array([True, False, True]), (1,), [1, 0, 1]),
    "binary table": ("1\n0\n1\n", (1,), [1, 0, 1]),
    "positions": (np.array([[2, 0], [1, 1], [0, 2]]), (2, 3), [[2, 0], [1, 1], [0, 2]]),
    "positions and an axis": (np.array([[[2], [0]], [[1], [1]], [[0], [2]]]), (2, 3), [[2, 0], [1, 1], [0, 2]]),
    "positions one-hot": (np.eye(3)[[[2, 0], [1, 1], [0, 2]]], (2, 3), [[2, 0], [1, 1], [0, 2]]),
    "binary positions": (np.array([[[1], [0]]] * 3), (2, 1), [[1, 0]] * 3),
}
TARGETS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "floats": (np.array([[0.5, 1], [2, 3], [4, 5]], "f4"), (2,), [[0.5, 1], [2, 3], [4, 5]]),
    "whole floats": (np.array([[1.0, 1], [2, 3], [4, 5]]), (2,), [[1, 1], [2, 3], [4, 5]]),
    "of one element": (np.array([23.0, 45.0, 1.0]), (1,), [[23], [45], [1]]),
    "of one element, a column": (np.array([[0.25], [45.0], [1.0]]), (1,), [[0.25], [45], [1]]),
    "table": ("23\n45\n1\n", (1,), [[23], [45], [1]]),
    "a row of a table": ("1,2,3,4\n5,6,7,8\n0,0,0,0\n", (2, 2), [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[0, 0], [0, 0]]]),
}


@pytest.mark.parametrize("what", CLASSES)
def test_classes(tmp_path: Path, what: str) -> None:
    content, shape, expected = CLASSES[what]
    (found,) = read(tmp_path, content, Head(name="kind", shape=shape))
    assert found.are_classes and found.values.dtype == np.int64 and found.values.tolist() == expected


@pytest.mark.parametrize("what", TARGETS)
def test_targets(tmp_path: Path, what: str) -> None:
    content, shape, expected = TARGETS[what]
    (found,) = read(tmp_path, content, Head(name="where", shape=shape))
    assert not found.are_classes and found.values.dtype == np.float64 and found.values.tolist() == expected


BAD: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "from 1": (
        np.array([1, 2, 3]),
        (3,),
        "labels are 1 to 3, but the classes of the model are 0 to 2; subtract 1 from",
    ),
    "too large": (np.array([0, 1, 7]), (3,), "labels are 0 to 7, but the classes of the model are 0 to 2; number the"),
    "below 0": (np.array([-1, 0, 1]), (3,), "labels are -1 to 1"),
    "huge": (np.array([0, 0, 2**63], "u8"), (3,), f"labels are 0 to {2**63}"),
    "huge table": ("0\n0\n1e300\n", (3,), f"labels are 0 to {2**53}"),
    "binary from 1": (
        np.array([1, 2, 1]),
        (1,),
        "but the classes of the model are 0 to 1; subtract 1 from each, or give",
    ),
    "signs": (
        np.array([-1, 1, 1]),
        (1,),
        "labels are -1 to 1, but the classes of the model are 0 to 1; number the classes",
    ),
    "whole floats": (
        np.array([2.0, 0.0, 1.0]),
        (3,),
        "labels are float64 of shape (3,); classes are one integer a sample",
    ),
    "several of a row": (np.array([[1, 1, 0]] * 3), (3,), "labels are int64 of shape (3, 3); classes are one integer"),
    "truth of many classes": (np.array([True, False, True]), (3,), "labels are bool of shape (3,)"),
    "truth of several of a row": (np.array([[True, True, False]] * 3), (3,), "labels are bool of shape (3, 3)"),
    "integers of its shape": (np.array([[5, 7]] * 3), (2,), "targets are floats (samples, 2)"),
    "another shape": (np.zeros((3, 4)), (2, 2), "labels are float64 of shape (3, 4)"),
    "fractions in a table": ("0.5\n1\n2\n", (3,), "labels are float64 of shape (3, 1)"),
    "text": (np.full(3, "a"), (3,), "labels are <U1 of shape (3,); give numbers"),
    "one number": (np.array(1), (3,), "one number, not labels for 3 samples"),
    "length": (np.zeros(4, int), (3,), "4 labels for 3 samples"),
    "not finite": (np.array([np.nan, np.inf, 0]), (1,), "2 labels are NaN or infinite"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_neither_is_refused(tmp_path: Path, what: str) -> None:
    content, shape, words = BAD[what]
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, Head(name="kind", shape=shape))
    assert words in str(caught.value) and "y." in str(caught.value)


def test_several_outputs_are_told_by_name(tmp_path: Path) -> None:
    heads = (Head(name="kind", shape=(3,)), Head(name="where", shape=(2,)), Head(name="flag", shape=(1,)))
    where = np.array([[0.5, 1], [2, 3], [4, 5]])
    for content in (
        {"flag": [1, 0, 1], "where": where, "kind": [2, 0, 1]},
        "where,kind,flag,where\n.5,2,1,1\n2,0,0,3\n4,1,1,5\n",
    ):
        found = read(tmp_path, content, *heads)
        assert [(each.output, each.index, each.values.tolist()) for each in found] == [
            ("kind", 0, [2, 0, 1]),
            ("where", 1, where.tolist()),
            ("flag", 2, [1, 0, 1]),
        ]
    (some,) = read(tmp_path, {"where": where}, *heads)
    assert (some.output, some.index) == ("where", 1)
    outputs = "the model has the outputs 'kind', 'where', 'flag': give an .npz with an array for each that has labels"
    for content, words in (
        (np.array([2, 0, 1]), f"holds one array; {outputs}"),
        ("2\n0\n1\n", f"holds one array; {outputs}"),
        ({}, f"holds nothing; {outputs}"),
        ({"kind": [2, 0, 1], "knid": [2, 0, 1]}, f"holds 'knid'; {outputs}"),
        ({"where": [1, 2, 3]}, "output 'where': labels are 1 to 3, but"),
        ({"kind": [1, 2, 3, 4]}, "4 labels 'kind' for 3 samples"),
    ):
        with pytest.raises(DataError) as caught:
            read(tmp_path, content, *heads)
        assert words in str(caught.value)


def test_an_archive_for_one_output_holds_one_array_or_one_of_its_name(tmp_path: Path) -> None:
    head = Head(name="kind", shape=(3,))
    for content in ({"y": [2, 0, 1]}, {"kind": [2, 0, 1], "other": [0, 0, 0]}):
        assert read(tmp_path, content, head)[0].values.tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="archive of 2 arrays; give one array, or one that is called 'kind'"):
        read(tmp_path, {"a": [2, 0, 1], "b": [0, 0, 0]}, head)


def test_targets_of_a_softmax_that_is_left_off_are_refused(tmp_path: Path) -> None:
    head = Head(name="kind", shape=(3,), softmax="probability")
    with pytest.raises(DataError, match=r"leaves the final softmax \('probability'\) off; keep it with --softmax"):
        read(tmp_path, np.full((3, 3), 0.25), head)
    assert read(tmp_path, ONE_HOT, head)[0].are_classes


def test_outputs_are_measured_beside_their_labels() -> None:
    classes = Labels(output="kind", index=0, values=np.array([2, 0, 1]))
    scores = np.array([[0, 1, 5], [7, 7, 0], [9, 0, 0], [0, 0, 9]])  # the first of equal ones; no label of the last
    assert classes.said(scores, 0.0).tolist() == [2, 0, 0]
    assert classes.measure(scores, 0.0) == {"accuracy": 2 / 3}
    assert classes.confusion(scores, 0.0, 3) == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]  # rows are labels
    targets = Labels(output="where", index=0, values=np.array([[1.0], [2.0]]))
    errors = targets.measure(np.array([[3], [8], [99]]), 0.0, step=0.5)  # 1.5 and 4
    assert errors == {"mean_absolute_error": 1.25, "mean_squared_error": 2.125}
    pixels = Labels(output="map", index=0, values=np.array([[[1], [0]]]))
    assert pixels.said(np.array([[[[1, 4]], [[3, 3]]]]), 0.0).tolist() == [[[1], [0]]]
    assert classes_of((2, 1, 2), pixels.values) == classes_of((1,), classes.values) == 2
    assert classes_of((2, 5), classes.values) == 10


@pytest.mark.parametrize(("fmt", "expected"), [(SIGNED, 0.0), (UNSIGNED, 0.5)])
def test_a_lone_element_is_held_against_a_threshold(fmt: FixedFormat, expected: float) -> None:
    """Above one half, which a sigmoid never falls below zero of; above zero, of a logit."""
    graph = Net((1,), fmt).requantize(SIGNED).graph()
    assert threshold(graph, graph.outputs[0]) == expected
    labels = Labels(output="flag", index=0, values=np.array([0, 1]))
    half = int(expected / fmt.step)
    assert labels.said(np.array([[half], [half + 1]]), expected / fmt.step).tolist() == [0, 1]


def test_an_unsigned_logit_is_still_one() -> None:
    """What its sum may be says it, not the format that it is clamped to."""
    logit = Net((2,), SIGNED).dense([[1], [-1]]).graph()
    graph = replace(logit, ops=(logit.ops[0], replace(logit.output, cast=Cast(UNSIGNED))))
    assert threshold(graph, graph.outputs[0]) == 0.0
