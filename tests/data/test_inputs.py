"""Inputs from files: what is accepted, what is refused by name, and what the port makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import flow, refused
from hypothesis import given
from hypothesis import strategies as st

from flow.data.inputs import (
    MAX_INPUT_BITS,
    Samples,
    derive_format,
    no_inputs,
    parse_format,
    read_samples,
    to_port,
)
from flow.errors import DataError, UnsupportedError
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, to_values
from flow.ir.graph import Input, IntGraph


def port(fmt: FixedFormat, shape: tuple[int, ...] = (2,), name: str = "x") -> IntGraph:
    op = Input(name=name, inputs=(), shape=shape, cast=Cast(fmt, Rounding.RND_CONV, Overflow.SAT))
    return IntGraph(name="g", ops=(op,))


def ports(*graphs: IntGraph) -> IntGraph:
    return IntGraph(name="g", ops=tuple(op for graph in graphs for op in graph.ops))


def samples(values: Any) -> Samples:
    return Samples(values=np.array(values, np.float64), labels=None, source="test")


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ">f4", "i4", "u1", "i8", "?"])
def test_numbers_of_every_kind_are_read(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(np.array([[0, 1], [1, 0], [1, 1]], dtype)))
    np.save(tmp_path / "y.npy", np.array([0, 1, 1], "u1"))
    found = read_samples(tmp_path / "x.npy", tmp_path / "y.npy", {"x": (2,)})
    assert found.values.dtype == np.float64
    assert found.labels is not None and found.labels.first(2).arrays[""].tolist() == [0, 1]
    assert found.values.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert found.source == "x.npy"


def test_several_inputs_are_an_archive(tmp_path: Path) -> None:
    """Flattened and joined in the model's order, not in that of the archive."""
    shapes = {"image": (2, 2), "vector": (1,)}
    np.savez(tmp_path / "x.npz", vector=np.array([[5], [6]]), image=np.arange(8.0).reshape(2, 2, 2))
    found = read_samples(tmp_path / "x.npz", None, shapes)
    assert found.values.tolist() == [[0, 1, 2, 3, 5], [4, 5, 6, 7, 6]]
    np.save(tmp_path / "x.npy", np.zeros((2, 5)))
    for arrays, message in (
        ({"image": np.zeros((2, 2, 2))}, "holds 'image'; the model has the inputs 'image', 'vector': give an .npz"),
        ({}, "holds nothing"),
        ({"image": np.zeros((2, 2, 2)), "vector": np.zeros((2, 2))}, r"'vector' has shape \(2, 2\)"),
        ({"image": np.zeros((2, 2, 2)), "vector": np.zeros((3, 1))}, "its arrays have 2, 3 samples"),
        ({"image": np.zeros((2, 2, 2)), "vector": np.full((2, 1), np.nan)}, "'vector' 2 values are NaN"),
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(DataError, match=message):
            read_samples(tmp_path / "x.npz", None, shapes)
    with pytest.raises(DataError, match="a single array; the model has several inputs"):
        read_samples(tmp_path / "x.npy", None, shapes)


BAD_INPUTS: dict[str, tuple[Any, str]] = {
    "features": (np.zeros((3, 63)), "has shape (3, 63); the model takes (samples, 64)"),
    "one sample": (np.zeros(64), "has shape (64,)"),
    "image": (np.zeros((3, 8, 8)), "has shape (3, 8, 8)"),
    "scalar": (np.float64(1), "has shape ()"),
    "empty": (np.zeros((0, 64)), "holds no samples"),
    "nan": (np.full((2, 64), np.nan), "128 values are NaN or infinite"),
    "infinite": (np.array([[np.inf, *[0.0] * 63]]), "1 value is NaN or infinite"),
    "complex": (np.zeros((3, 64), complex), "complex128, not numbers"),
    "text": (np.full((3, 64), "a"), "not numbers"),
    "dates": (np.zeros((3, 64), "M8[s]"), "not numbers"),
    "records": (np.zeros((3, 64), [("a", "f4")]), "not numbers"),
    "objects": (np.full((3, 64), None), "not a readable .npy file"),
}
BAD_LABELS: dict[str, tuple[Any, str]] = {
    "length": (np.zeros(4, int), "4 labels for 3 samples"),
    "floats": (np.zeros(3), "labels are float64 of shape (3,)"),
    "one hot": (np.zeros((3, 10), int), "shape (3, 10)"),
    "text": (np.full(3, "a"), "labels are <U1"),
    "objects": (np.full(3, None), "not a readable .npy file"),
}


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, what: str) -> None:
    values, words = BAD_INPUTS[what]
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    refused(flow("build", "digits_mlp", "--inputs", tmp_path / "x.npy", "--output", tmp_path / "runs"), words, "x.npy")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("what", BAD_LABELS)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, what: str) -> None:
    values, words = BAD_LABELS[what]
    np.save(tmp_path / "x.npy", np.zeros((3, 64)))
    np.save(tmp_path / "y.npy", values, allow_pickle=True)
    given_files = ("--inputs", tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    refused(flow("build", "digits_mlp", *given_files, "--output", tmp_path / "runs"), words, "y.npy")
    assert not (tmp_path / "runs").exists()


def test_files_that_are_no_array_are_refused(tmp_path: Path) -> None:
    command = ("build", "digits_mlp", "--output", tmp_path / "runs", "--inputs")
    np.save(tmp_path / "whole.npy", np.zeros((3, 64)))
    whole = (tmp_path / "whole.npy").read_bytes()
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 64)), y=np.zeros((3, 64)))
    header = whole.replace(b"(3, 64)", b"(9**9,)")
    bad = {
        "empty": b"",
        "text": b"1,2,3\n",
        "half": whole[:-9],
        "header": whole[:20],
        "evil": header,
        "zip": b"PK\x03\x04",
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.npy").write_bytes(content)
        refused(flow(*command, tmp_path / f"{name}.npy"), f"{name}.npy: not a readable .npy file")
    refused(flow(*command, tmp_path / "x.npz"), "an .npz archive of 2 arrays; give one array, or one that is called")
    refused(flow(*command, tmp_path / "none.npy"), "no such file")
    refused(flow(*command, tmp_path), "not a readable .npy file")
    refused(flow("build", "digits_mlp", "--labels", tmp_path / "whole.npy"), "labels were given without inputs")


def test_tables_and_archives_are_read_as_arrays_are(tmp_path: Path) -> None:
    """A row of a table is a sample, whatever its shape; an archive has one array, or one called like the input."""
    values = np.arange(12.0).reshape(3, 2, 2) / 4
    rows = "\n".join(",".join(map(str, row)) for row in values.reshape(3, 4).tolist())
    (tmp_path / "y.csv").write_text("class\n2\n0\n1\n")
    for name, text in {
        "plain": rows,
        "named": f"\ufeffa,b,c,d\n{rows}\n\n",
        "quoted": f'"a","b","c","d"\n{rows}',
    }.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        found = read_samples(tmp_path / f"{name}.csv", tmp_path / "y.csv", {"image": (2, 2)})
        assert found.values.tolist() == values.tolist()
        assert found.labels is not None and found.labels.arrays[""].tolist() == [[2], [0], [1]]
    np.savez(tmp_path / "one.npz", anything=values)
    np.savez_compressed(tmp_path / "two.npz", image=values, other=np.zeros(3))
    for name in ("one", "two"):
        assert read_samples(tmp_path / f"{name}.npz", None, {"image": (2, 2)}).values.tolist() == values.tolist()


BAD_TABLES = {
    "text": ("a,b\n1,x\n", "not a table of numbers: row 2, column 2 holds 'x'; one sample a row"),
    "ragged": ("1,2\n1\n", "not a table of numbers: row 2 has 1 column, row 1 has 2; one sample a row"),
    "ragged, named": ("a,b\n1,2\n\n1,2,3\n", "row 4 has 3 columns, row 1 has 2"),
    "semicolons": ("1;2\n3;4\n", "not a table of numbers"),
    "names alone": ("a,b\n", "holds no row of numbers"),
    "empty": ("", "holds no row of numbers"),
    "counted columns": ("0,1,2,3\n1,2,3,4\n", "its first row counts 0, 1, 2, ...: names of columns, or a sample?"),
    "an index": (",0,1\n0,5,6\n", "not a table of numbers: row 1, column 1 holds ''"),
    "half a name": ("1,x\n1,2\n", "not a table of numbers: row 1, column 2 holds 'x'"),
    "columns": ("1,2,3\n", "has shape (1, 3); the model takes (samples, 2)"),
    "nan": ("nan,2\n", "1 value is NaN"),
    "not UTF-8": (b"\xff\xfe1,2\n", "not a table of numbers: it is no text in UTF-8"),
    "null": ("1,\0\n", "not a table of numbers"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_tables_that_are_none_are_refused(tmp_path: Path, what: str) -> None:
    text, words = BAD_TABLES[what]
    (tmp_path / "x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        read_samples(tmp_path / "x.csv", None, {"x": (2,)})
    assert words in str(caught.value) and "usecols" not in str(caught.value)


# port formats

BYTE = FixedFormat(False, 8, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.75], FixedFormat(False, 0, 2)),
        ([-1.0, 0.5], FixedFormat(True, 0, 1)),
        ([0.0, 255.0], FixedFormat(False, 8, 0)),
        ([0.0, 256.0], FixedFormat(False, 9, -8)),
        ([-0.5, 0.0], FixedFormat(True, -1, 1)),
        ([0.0, 0.0], FixedFormat(False, 1, 0)),
        ([1024.0, 3072.0], FixedFormat(False, 12, -10)),
    ],
)
def test_a_derived_format_holds_exactly_what_occurs(values: list[float], expected: FixedFormat) -> None:
    fmt = derive_format(np.array(values))
    assert fmt.width <= MAX_INPUT_BITS
    found = to_port(samples([values]), port(fmt, (len(values),)))
    assert (found.rounded, found.clipped) == (0, 0)
    assert to_values(found.codes, fmt).tolist() == [values]
    if values[-1] != 256.0:
        assert fmt == expected


def test_a_derived_format_stops_at_16_bits_and_counts_what_that_changes() -> None:
    values = np.array([[0.1, 100.0], [1 / 3, 50.0]])
    fmt = derive_format(values)
    assert fmt == FixedFormat(False, 7, 9)
    found = to_port(samples(values), port(fmt))
    assert (found.rounded, found.clipped) == (2, 0)
    assert np.abs(to_values(found.codes, fmt) - values).max() <= fmt.step / 2


@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1e-3, 1.0, 1e3, 1e12, 1e30, 1e38])
def test_a_derived_format_follows_the_magnitude(magnitude: float) -> None:
    values = np.array([[magnitude / 3, -magnitude]])
    fmt = derive_format(values)
    assert fmt.width == MAX_INPUT_BITS
    found = to_port(samples(values), port(fmt))
    np.testing.assert_allclose(to_values(found.codes, fmt), values, rtol=1e-4)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2))
def test_a_derived_format_changes_no_value_by_more_than_a_step(values: list[float]) -> None:
    fmt = derive_format(np.array(values))
    assert 1 <= fmt.width <= MAX_INPUT_BITS
    found = to_port(samples([values]), port(fmt))
    assert np.abs(to_values(found.codes, fmt) - values).max() <= fmt.step


def test_rounded_and_clipped_values_are_counted_apart() -> None:
    found = to_port(samples([[0.3, 5.0], [0.5, -1.0]]), port(FixedFormat(False, 0, 2)))
    assert found.codes.tolist() == [[1, 3], [2, 0]]
    assert (found.rounded, found.clipped) == (1, 2)


@pytest.mark.parametrize("huge", [1e300, -1e300])
def test_huge_values_are_clipped_or_refused(huge: float) -> None:
    found = to_port(samples([[huge, 0.0]]), port(FixedFormat(True, 3, 2)))
    assert found.clipped == 1
    assert found.codes[0, 0] == (31 if huge > 0 else -32)
    assert derive_format(np.array([huge, 1.0])).width == MAX_INPUT_BITS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ufixed<8,0>", FixedFormat(False, 0, 8)),
        ("fixed<16,6>", FixedFormat(True, 5, 10)),
        ("ap_fixed<16, 6>", FixedFormat(True, 5, 10)),
        ("ap_ufixed<8,0,AP_RND_CONV,AP_SAT,0>", FixedFormat(False, 0, 8)),
        ("uint<8>", FixedFormat(False, 8, 0)),
    ],
)
def test_input_formats_have_the_vendors_meaning(text: str, expected: FixedFormat) -> None:
    assert parse_format(text) == expected


@pytest.mark.parametrize("text", ["", "8", "float", "fixed<8>", "fixed<a,b>", "fixed<8,0", "fixed<8,0,AP_NONE,AP_SAT>"])
def test_other_input_formats_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="is not like"):
        parse_format(text)


@pytest.mark.parametrize("text", ["fixed<0,0>", "ufixed<64,0>", "fixed<99999999999,0>"])
def test_input_formats_of_impossible_width_are_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match="bits"):
        parse_format(text)


def test_a_model_that_quantizes_its_input_takes_no_format(tmp_path: Path) -> None:
    outcome = flow("show", "digits_mlp", "--input-format", "fixed<8,1>", "--output", tmp_path)
    refused(outcome, "quantizes its own input")


def test_each_port_has_its_own_grid() -> None:
    graph = ports(port(FixedFormat(False, 0, 2), (2,), "a"), port(FixedFormat(True, 3, 0), (1, 1), "b"))
    found = to_port(samples([[0.3, 5.0, -9.0], [0.5, 0.75, 2.5]]), graph)
    assert found.codes.tolist() == [[1, 3, -8], [2, 3, 2]]
    assert (found.rounded, found.clipped) == (2, 2)


def test_no_inputs_are_an_empty_set() -> None:
    empty = no_inputs(port(FixedFormat(False, 0, 4)))
    assert empty.codes.shape == (0, 2)
    assert empty.labels == ()
