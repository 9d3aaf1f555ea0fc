"""A user's own samples: every form they come in, how they are split, scaled and numbered, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.data.functions import FunctionSpec
from flow.data.own import DataSpec, load_own, prepared
from flow.errors import DataError, SpecError

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
RNG = np.random.default_rng(5)
COUNT = 60
X = RNG.normal(3, 2, (COUNT, 3))
KIND = np.array(["oak", "fir", "elm"])[np.arange(COUNT) % 3]
SIZE = RNG.normal(0, 1, COUNT)
CODE = """
import numpy as np

def load(count=60):
    x = np.arange(count * 2.0).reshape(count, 2)
    return x, np.arange(count) % 2

def split():
    x, y = load()
    return (x[:50], y[:50]), (x[50:], y[50:])

def heads():
    x, y = load()
    return x, {"kind": y, "size": x[:, 0]}

def fails():
    raise KeyError("no such thing")

def odd():
    return 7
"""


def frame() -> Any:
    return pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "size": SIZE, "kind": KIND})


def spec(directory: Path, **given: Any) -> DataSpec:
    return DataSpec(directory=directory, **given)


def test_a_table_is_split_scaled_and_numbered(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "trees.csv", index=False)
    of = spec(
        tmp_path,
        file=("trees.csv",),
        features=("a", "b", "c"),
        scaling="standard",
        test=0.25,
        validation=0.25,
        stratified=True,
    )
    data = load_own(of)
    assert (len(data.x_train), len(data.x_valid), len(data.x_test)) == (30, 15, 15)  # type: ignore[arg-type]
    assert data.class_names == ("elm", "fir", "oak") and np.bincount(data.y_test).tolist() == [5, 5, 5]  # type: ignore[arg-type]
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(axis=0), 1, atol=1e-6)
    again, other = load_own(of), load_own(spec(tmp_path, file=("trees.csv",), features=("a", "b", "c"), seed=1))
    assert np.array_equal(again.x_train, data.x_train) and not np.array_equal(other.x_test, data.x_test)
    made = prepared(data.preparation, frame())  # what is scaled later is scaled as then
    rows = {row.tobytes() for row in made}
    assert all(row.tobytes() in rows for row in data.x_test)
    with pytest.raises(DataError, match="the frame lacks the columns c"):
        prepared(data.preparation, frame()[["a", "b"]])


def test_targets_and_several_kinds_of_labels(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "trees.csv", index=False)
    data = load_own(spec(tmp_path, file=("trees.csv",), labels=("kind", "size"), scaling="min_max"), {"size"})
    assert isinstance(data.y_train, dict) and data.class_names == {"kind": ("elm", "fir", "oak"), "size": ()}
    assert data.y_train["size"].dtype == np.float32 and data.y_train["kind"].dtype == np.int64
    assert (data.x_train.min(), data.x_train.max()) == (0, 1) and data.x_train.shape == (48, 3)
    alone = load_own(spec(tmp_path, file=("trees.csv",), labels=("size",), features=("a",)), {"size"})
    assert isinstance(alone.y_train, np.ndarray) and alone.y_train.dtype == np.float32


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame().to_csv(tmp_path / "trees.csv", index=False)
    frame().to_parquet(tmp_path / "trees.parquet")
    one, other = (load_own(spec(tmp_path, file=(f"trees.{end}",), features=("a",))) for end in ("csv", "parquet"))
    assert np.array_equal(one.x_train, other.x_train) and np.array_equal(one.y_train, other.y_train)  # type: ignore[arg-type]


def test_the_split_can_be_given(tmp_path: Path) -> None:
    table = frame().assign(fold=["train"] * 40 + ["validation"] * 8 + ["test"] * 12)
    table.to_csv(tmp_path / "trees.csv", index=False)
    data = load_own(spec(tmp_path, file=("trees.csv",), features=("a",), labels=("kind",), split="fold"))
    assert (len(data.x_train), len(data.x_valid), len(data.x_test)) == (40, 8, 12)  # type: ignore[arg-type]
    np.testing.assert_array_equal(data.x_test[:, 0], np.float32(X[48:, 0]))
    table[:30].to_csv(tmp_path / "one.csv", index=False)
    table[30:].to_csv(tmp_path / "two.csv", index=False)
    given = load_own(spec(tmp_path, file=("one.csv",), test_file=("two.csv",), features=("a",), labels=("kind",)))
    np.testing.assert_array_equal(given.x_test[:, 0], np.float32(X[30:, 0]))
    np.savez(tmp_path / "s.npz", x_train=X[:50], y_train=KIND[:50], x_test=X[50:], y_test=KIND[50:])
    assert len(load_own(spec(tmp_path, file=("s.npz",))).x_test) == 10


def test_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    series = RNG.normal(0, 1, (COUNT, 8, 2))
    np.savez(tmp_path / "s.npz", x=series, kind=np.arange(COUNT) % 4, size=SIZE)
    data = load_own(spec(tmp_path, file=("s.npz",), labels=("kind", "size"), test=0.5), {"size"})
    assert data.x_train.shape == (30, 8, 2) and data.classes("kind") == ("0", "1", "2", "3")
    np.save(tmp_path / "x.npy", series)
    np.save(tmp_path / "y.npy", np.arange(COUNT) % 4)
    pair = load_own(spec(tmp_path, file=("x.npy", "y.npy"), test=0.5))
    assert np.array_equal(pair.x_train, data.x_train)


def test_folders_of_pictures(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, name in enumerate(("a cat", "Dog-2")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for each in range(4):
            pixels = np.full((10, 6, 3), 100 * number + each, np.uint8)
            pillow.fromarray(pixels).save(tmp_path / "pets" / name / f"{each}.png")
    data = load_own(spec(tmp_path, folder="pets", size=(4, 4), test=0.5, stratified=True))
    assert data.x_train.shape == (4, 4, 4, 3) and data.class_names == ("Dog-2", "a cat")
    assert sorted(np.unique(np.concatenate([data.x_train, data.x_test])) * 256) == [0, 1, 2, 3, 100, 101, 102, 103]
    grey = load_own(spec(tmp_path, folder="pets", size=(4, 4), channels=1))
    assert grey.x_train.shape == (6, 4, 4, 1)


def test_a_function_of_the_user_gives_samples(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)

    def load(name: str, **arguments: Any) -> Any:
        return load_own(
            spec(tmp_path, function=FunctionSpec(name=f"mine.py:{name}", arguments=arguments, directory=tmp_path)),
            {"size"} if name == "heads" else (),
        )

    assert len(load("load", count=30).x_train) == 24
    assert load("split").x_test[0, 0] == 100
    assert set(load("heads").y_train) == {"kind", "size"}
    with pytest.raises(SpecError, match=r"function 'mine.py:fails' failed \(KeyError: 'no such thing'\)"):
        load("fails")
    with pytest.raises(SpecError, match=r"failed \(AttributeError: module .* has no attribute 'absent'"):
        load("absent")
    with pytest.raises(DataError, match=r"mine.py:odd: returned int, not two things; return \(x, y\), or"):
        load("odd")
    module = DataSpec(function=FunctionSpec(name="mine:load", directory=tmp_path), directory=tmp_path)
    assert len(load_own(module).x_train) == 48
    with pytest.raises(SpecError, match=r"there is no file .*absent.py; expected 'file.py:function'"):
        load_own(spec(tmp_path, function=FunctionSpec(name="absent.py:load", directory=tmp_path)))


def emptied(table: Any) -> Any:
    table.loc[3, "b"] = np.nan
    return table


def boundless(table: Any) -> Any:
    table.loc[3, "b"] = -np.inf
    return table


def endless(table: Any) -> Any:
    table.loc[[3, 4], "size"] = np.inf
    return table


REFUSED: tuple[tuple[dict[str, Any], Callable[[Any], Any], str], ...] = (
    ({"features": ("a", "z")}, frame, "trees.csv: has no column 'z'; there are 'a, b, c, size, kind'"),
    ({"labels": ("size",)}, frame, "column 'kind' holds 'oak', no number; name the columns that are numbers"),
    ({}, emptied, "column 'b' has 1 empty cells; fill them or leave these rows out"),
    *(
        (
            {"labels": ("kind",), "scaling": scaling},
            boundless,
            "csv: column 'b': 1 value is NaN or infinite; leave these",
        )
        for scaling in ("none", "standard", "min_max")
    ),
    (
        {"labels": ("size",), "features": ("a",)},
        endless,
        "csv: labels: 2 values are NaN or infinite; leave these rows out",
    ),
    ({"labels": ("size",), "features": ("a",)}, frame, r"labels hold fractions; add \[\[heads\]\] with task"),
    ({"split": "kind", "labels": ("size",), "features": ("a",)}, frame, "column 'kind' holds 'elm'; expected train"),
    ({"test": 0.001, "stratified": True}, frame, r"cannot be split \(.*; change test or validation"),
    (
        {"stratified": True, "labels": ("size",), "features": ("a",)},
        frame,
        "labels are targets, and a stratified split is one by classes; leave stratified out",
    ),
    ({"file": ("absent.csv",)}, frame, "absent.csv: no such file"),
)


@pytest.mark.parametrize(("given", "changed", "message"), REFUSED)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, given: dict[str, Any], changed: Callable[..., Any], message: str
) -> None:
    (frame() if changed is frame else changed(frame())).to_csv(tmp_path / "trees.csv", index=False)
    with pytest.raises(DataError, match=message):
        load_own(spec(tmp_path, **{"file": ("trees.csv",), **given}))


@pytest.mark.parametrize(("separator", "word"), [(";", "a semicolon"), ("\t", "a tab")])
def test_another_separator_is_named(tmp_path: Path, separator: str, word: str) -> None:
    frame().to_csv(tmp_path / "trees.csv", index=False, sep=separator)
    with pytest.raises(
        DataError, match=rf"trees\.csv: has one column, .*: its separator is {word}; save it with commas"
    ):
        load_own(spec(tmp_path, file=("trees.csv",)))


def test_files_that_lack_something(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=X, z=KIND)
    with pytest.raises(DataError, match=r"has no array 'y' but 'x', 'z'; name the labels by data.labels"):
        load_own(spec(tmp_path, file=("s.npz",)))
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match=r"holds inputs and no labels"):
        load_own(spec(tmp_path, file=("x.npy",)))
    np.save(tmp_path / "y.npy", SIZE[:5])
    with pytest.raises(DataError, match="60 inputs but 5 labels"):
        load_own(spec(tmp_path, file=("x.npy", "y.npy")))
    with pytest.raises(DataError, match="no such directory"):
        load_own(spec(tmp_path, folder="pets", size=(4, 4)))
    (tmp_path / "pets").mkdir()
    with pytest.raises(DataError, match="holds no directory with pictures; expected CLASS"):
        load_own(spec(tmp_path, folder="pets", size=(4, 4)))


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_what_cannot_be_prepared_is_refused(tmp_path: Path, scaling: str) -> None:
    frame().to_csv(tmp_path / "trees.csv", index=False)
    made = load_own(spec(tmp_path, file=("trees.csv",), features=("a", "b", "c"), scaling=scaling)).preparation
    for values, message in (
        (X[:, :2], r"argument 'values': has shape \(60, 2\); expected \(samples, 3\)"),
        (X[:, :1], r"has shape \(60, 1\); expected \(samples, 3\)"),
        (X[0], r"has shape \(3,\); expected \(samples, 3\)"),
        (frame().assign(b=np.inf), "argument 'values': column 'b': 60 values are NaN or infinite"),
        ([[1, np.nan, 2]], "column 'b': 1 value is NaN or infinite"),
        (frame().assign(c="oak"), r"argument 'values': is no array of numbers \(could not convert string to float"),
    ):
        with pytest.raises(DataError, match=message):
            prepared(made, values)


def test_samples_of_several_axes_are_scaled_as_in_the_training(tmp_path: Path) -> None:
    series = RNG.normal(5, 3, (COUNT, 4, 2))
    np.savez(tmp_path / "s.npz", x_train=series[:50], y_train=KIND[:50], x_test=series[50:], y_test=KIND[50:])
    data = load_own(spec(tmp_path, file=("s.npz",), scaling="standard"))
    np.testing.assert_array_equal(prepared(data.preparation, series[50:]), data.x_test)
    with pytest.raises(DataError, match=r"has shape \(60, 4, 1\); expected \(samples, \.\.\.\), 8 values a sample"):
        prepared(data.preparation, series[..., :1])
