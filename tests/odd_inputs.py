"""Files and options made to do harm, or odd: arrays, tables, labels, TOML and JSON documents, values of every option.

ARRAYS      what `--inputs` is given, for the digits: 64 numbers a sample
LABELS      what `--labels` is given beside 3 samples
DOCUMENTS   specs, settings of a quantization, findings of `flow fuzz`: command line -> the text of its file
NUMBERS, TEXTS   options, each of which is given each of `VALUES`; but for `FINE_VALUES` all are refused
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 64


def saved(values: Any) -> bytes:
    """Return the bytes of a `.npy` file."""
    file = io.BytesIO()
    np.save(file, np.asarray(values), allow_pickle=True)
    return file.getvalue()


def header(text: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return a `.npy` file with a header of one's own."""
    padded = text.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(padded))
    return b"\x93NUMPY" + bytes(version) + size + padded + body


def archive(members: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """Return the bytes of a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


def _declared(shape: str, descr: str = "'<f8'", order: str = "False") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}", bytes(WIDTH * 8))


ONES = np.ones((3, WIDTH))
ROW = ",".join(["1"] * WIDTH)
ARRAYS: Mapping[str, tuple[str, bytes]] = {
    "complex": ("x.npy", saved(ONES * 1j)),
    "objects": ("x.npy", saved(np.full((3, WIDTH), None))),
    "text": ("x.npy", saved(np.full((3, WIDTH), "1"))),
    "bytes": ("x.npy", saved(np.full((3, WIDTH), b"1"))),
    "dates": ("x.npy", saved(np.zeros((3, WIDTH), "M8[s]"))),
    "records": ("x.npy", saved(np.zeros((3, WIDTH), [("a", "f4"), ("b", "i4")]))),
    "void": ("x.npy", saved(np.zeros((3, WIDTH), "V8"))),
    "nan": ("x.npy", saved(ONES * np.nan)),
    "infinite": ("x.npy", saved(ONES * np.inf)),
    "1e300": ("x.npy", saved(ONES * 1e300)),
    "1e-300": ("x.npy", saved(ONES * 1e-300)),
    "int64 ends": ("x.npy", saved(np.full((3, WIDTH), np.iinfo(np.int64).min))),
    "uint64 end": ("x.npy", saved(np.full((3, WIDTH), np.iinfo(np.uint64).max))),
    "half precision": ("x.npy", saved(ONES.astype("f2"))),
    "long double": ("x.npy", saved(ONES.astype(np.longdouble))),
    "big endian": ("x.npy", saved(ONES.astype(">f8"))),
    "fortran order": ("x.npy", saved(np.asfortranarray(ONES))),
    "booleans": ("x.npy", saved(ONES.astype(bool))),
    "no samples": ("x.npy", saved(ONES[:0])),
    "no axes": ("x.npy", saved(1.0)),
    "one axis": ("x.npy", saved(ONES[0])),
    "32 axes": ("x.npy", saved(np.ones((1,) * 32))),
    "a column too many": ("x.npy", saved(np.ones((3, WIDTH + 1)))),
    "images": ("x.npy", saved(np.ones((3, 8, 8)))),
    "cut short": ("x.npy", saved(ONES)[:-5]),
    "more behind": ("x.npy", saved(ONES) + bytes(100)),
    "empty": ("x.npy", b""),
    "magic alone": ("x.npy", b"\x93NUMPY"),
    "version 9": ("x.npy", header("{}", version=(9, 0))),
    "no header": ("x.npy", header("")),
    "code as a header": ("x.npy", header("__import__('os').system('touch was_here')")),
    "huge header": ("x.npy", header("{" + " " * (1 << 24) + "}", version=(2, 0))),
    "huge shape": ("x.npy", _declared("(10**4, 64)".replace("10**4", str(10**15)))),
    "negative shape": ("x.npy", _declared("(-3, 64)")),
    "shape of text": ("x.npy", _declared("('a', 64)")),
    "odd type": ("x.npy", _declared("(1, 64)", "'<q9'")),
    "nested type": ("x.npy", _declared("(1, 64)", str([("a", [("b", "<f4")])]))),
    "odd order": ("x.npy", _declared("(1, 64)", order="'x'")),
    "pickle": ("x.npy", pickle.dumps(ONES.tolist())),
    "pickle as csv": ("x.csv", pickle.dumps([1, 2])),
    "npy as csv": ("x.csv", saved(ONES)),
    "npy without a suffix": ("x", saved(ONES)),
    "npy as h5": ("x.h5", saved(ONES)),
    "png": ("x.png", b"\x89PNG\r\n\x1a\n" + bytes(64)),
    "gzip": ("x.npy.gz", b"\x1f\x8b\x08" + bytes(64)),
    "json": ("x.json", json.dumps(ONES.tolist()).encode()),
    "python": ("x.py", b"raise SystemExit(0)"),
    "npz, one": ("x.npz", archive({"x.npy": saved(ONES)})),
    "npz, two": ("x.npz", archive({"a.npy": saved(ONES), "b.npy": saved(ONES)})),
    "npz, none": ("x.npz", archive({})),
    "npz, no array": ("x.npz", archive({"x.txt": b"hello"})),
    "npz, objects": ("x.npz", archive({"x.npy": saved(np.full((3, WIDTH), None))})),
    "npz, damaged": ("x.npz", archive({"x.npy": saved(ONES)})[:-30]),
    "npz, member cut short": ("x.npz", archive({"x.npy": saved(ONES)[:-9]})),
    "npz, names out of it": ("x.npz", archive({"../../was_here.npy": saved(ONES)})),
    "npz, huge shape": (
        "x.npz",
        archive({"x.npy": header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 64)}")}),
    ),
    "npz, nested": ("x.npz", archive({"x.npy": archive({"x.npy": saved(ONES)})})),
    "zip alone": ("x.npz", b"PK\x05\x06" + bytes(18)),
    "csv": ("x.csv", f"{ROW}\n{ROW}\n".encode()),
    "csv, named": ("x.csv", f"{','.join('abcdefgh' * 8)}\n{ROW}\n".encode()),
    "csv, counted": ("x.csv", f"{','.join(map(str, range(WIDTH)))}\n{ROW}\n".encode()),
    "csv, ragged": ("x.csv", f"{ROW}\n{ROW},1\n".encode()),
    "csv, text": ("x.csv", f"{ROW}\n{ROW[:-1]}x\n".encode()),
    "csv, nan": ("x.csv", f"{ROW[:-1]}nan\n".encode()),
    "csv, 1e999": ("x.csv", f"{ROW[:-1]}1e999\n".encode()),
    "csv, code": ("x.csv", b"=cmd|' /C calc'!A0\n"),
    "csv, empty": ("x.csv", b""),
    "csv, names alone": ("x.csv", b"a,b\n"),
    "csv, one long line": ("x.csv", b"1," * 1_000_000 + b"1\n"),
    "csv, UTF-16": ("x.csv", f"{ROW}\n".encode("utf-16")),
    "csv, null": ("x.csv", b"1,\0\n"),
    "csv, tabs": ("x.csv", ROW.replace(",", "\t").encode()),
    "csv, decimal commas": ("x.csv", ROW.replace(",", ";").replace("1", "1,5").encode()),
}
"""What is given -> its name and its bytes."""
FINE_ARRAYS = {
    *("1e-300", "half precision", "long double", "big endian", "fortran order", "booleans", "more behind"),
    *("npy as csv", "npy without a suffix", "npy as h5", "npz, one", "npz, names out of it", "csv", "csv, named"),
    *("1e300", "int64 ends", "uint64 end"),
}
"""Numbers all the same: a project comes of them."""
LABELS: Mapping[str, tuple[str, bytes]] = {
    "from 1": ("y.npy", saved([1, 5, 10])),
    "negative": ("y.npy", saved([-1, 0, 1])),
    "beyond": ("y.npy", saved([0, 1, 999])),
    "uint64 end": ("y.npy", saved(np.uint64([0, 1, 2**64 - 1]))),
    "floats": ("y.npy", saved([0.0, 1.0, 2.0])),
    "booleans": ("y.npy", saved([True, False, True])),
    "text": ("y.npy", saved(["0", "1", "2"])),
    "one hot": ("y.npy", saved(np.eye(3, 10, dtype=int))),
    "a column": ("y.npy", saved([[0], [1], [2]])),
    "too few": ("y.npy", saved([0, 1])),
    "too many": ("y.npy", saved([0, 1, 2, 3])),
    "none": ("y.npy", saved(np.zeros(0, int))),
    "objects": ("y.npy", saved([None, 1, 2])),
    "two arrays": ("y.npz", archive({"a.npy": saved([0, 1, 2]), "b.npy": saved([0, 1, 2])})),
    "csv, halves": ("y.csv", b"0.5\n1\n2\n"),
    "csv, nan": ("y.csv", b"nan\n1\n2\n"),
    "csv, 1e300": ("y.csv", b"1e300\n1\n2\n"),
    "csv, two columns": ("y.csv", b"0,1\n1,2\n2,3\n"),
    "not there": ("", b""),
    "npz": ("y.npz", archive({"y.npy": saved([0, 1, 2])})),
    "csv": ("y.csv", b"label\n0\n1\n9\n"),
}
FINE_LABELS = {"npz", "csv", "one hot", "a column"}
_SPEC = (Path(__file__).parent.parent / "models/digits_mlp/spec.toml").read_text()
_TRAIN = ("train", "{file}", "--output", "trained")
_REPLAY = ("fuzz", "--replay", "{file}")
_SETTINGS = ("quantize", "digits_mlp", "--spec", "{file}", "--until", "emit", "--output", "runs")


def _recipe(**changed: Any) -> str:
    recipe = {"name": "x", "config": {"name": "x", "layers": []}, "seed": 1}
    return json.dumps({"recipe": {**recipe, **changed}})


DOCUMENTS: Mapping[str, tuple[tuple[str, ...], str | bytes]] = {
    "spec: empty": (_TRAIN, ""),
    "spec: not TOML": (_TRAIN, "a = = 1"),
    "spec: not UTF-8": (_TRAIN, b"a = '\xff'"),
    "spec: null": (_TRAIN, "a\0 = 1"),
    "spec: deep": (_TRAIN, "a = " + "[" * 5000 + "]" * 5000),
    "spec: long number": (_TRAIN, "seed = " + "9" * 5000),
    "spec: long name": (_TRAIN, _SPEC.replace('name = "digits_mlp"', f'name = "{"n" * 100_000}"', 1)),
    "spec: name of a path": (_TRAIN, _SPEC.replace('name = "digits_mlp"', 'name = "../../x"', 1)),
    "spec: name a number": (_TRAIN, _SPEC.replace('name = "digits_mlp"', "name = 3", 1)),
    "spec: epochs -1": (_TRAIN, _SPEC.replace("epochs = ", "epochs = -", 1)),
    "spec: epochs text": (_TRAIN, _SPEC.replace("epochs = ", 'epochs = "x" #', 1)),
    "spec: epochs true": (_TRAIN, _SPEC.replace("epochs = ", "epochs = true #", 1)),
    "spec: epochs nan": (_TRAIN, _SPEC.replace("epochs = ", "epochs = nan #", 1)),
    "spec: unknown key": (_TRAIN, "command = 'touch was_here'\n" + _SPEC),
    "spec: twice": (_TRAIN, _SPEC + _SPEC),
    "spec: data set": (_TRAIN, _SPEC.replace('dataset = "', 'dataset = "../', 1)),
    "replay: empty": (_REPLAY, ""),
    "replay: a list": (_REPLAY, "[]"),
    "replay: a number": (_REPLAY, "3"),
    "replay: deep": (_REPLAY, '{"recipe": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "replay: not UTF-8": (_REPLAY, b"\xff\xfe"),
    "replay: no layers": (_REPLAY, _recipe()),
    "replay: seed -1": (_REPLAY, _recipe(seed=-1)),
    "replay: seed text": (_REPLAY, _recipe(seed="x")),
    "replay: seed 1e400": (_REPLAY, _recipe(seed=10**400)),
    "replay: config a list": (_REPLAY, _recipe(config=[])),
    "replay: unknown key": (_REPLAY, _recipe(command="touch was_here")),
    "replay: a Lambda": (
        _REPLAY,
        _recipe(
            config={"layers": [{"class_name": "Lambda", "config": {"name": "x", "function": ["4wEA", None, None]}}]}
        ),
    ),
    "replay: class of os": (
        _REPLAY,
        _recipe(config={"layers": [{"class_name": "os>system", "config": {"name": "x"}}]}),
    ),
    "settings: empty": (_SETTINGS, "bits = 1000"),
    "settings: text": (_SETTINGS, "bits = 'x'"),
    "settings: true": (_SETTINGS, "bits = true"),
    "settings: -1": (_SETTINGS, "bits = -1"),
    "settings: nan": (_SETTINGS, "seed = nan"),
    "settings: inf": (_SETTINGS, "seed = inf"),
    "settings: unknown": (_SETTINGS, "command = 'x'"),
    "settings: not TOML": (_SETTINGS, "\x1b[31m"),
    "settings: layers": (_SETTINGS, "[layers]\nx = 3"),
    "settings: no such layer": (_SETTINGS, "[layers.none]\nbits = 4"),
    "settings: layer of text": (_SETTINGS, "layers = 'x'"),
}
"""What is in a document -> the command that reads it as {file}, and its text."""
VALUES = ("-1", "0", "999999999999999999999", "1e400", "nan", "inf", "x", "", "0x10", "\x1b[31m", "n" * 10_000)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "build": ("build", "digits_mlp", "--until", "emit", "--output", "runs"),
    "quantize": ("quantize", "digits_mlp", "--until", "extract", "--output", "runs"),
    "check": ("check", "digits_mlp", "--output", "runs"),
    "show": ("show", "digits_mlp", "--output", "runs"),
    "train": ("train", "digits_mlp", "--output", "trained"),
    "fuzz": ("fuzz", "--output", "fuzz"),
}
"""Command -> what it is called with, before an option."""
NUMBERS: Mapping[str, tuple[str, ...]] = {
    "build": ("--samples", "--adversarial", "--clock-period-ns", "--reuse-factor"),
    "quantize": ("--calibration-samples", "--seed", "--bits", "--candidates"),
    "check": ("--clock-period-ns", "--reuse-factor"),
    "train": ("--epochs",),
    "fuzz": ("--models",),
}
TEXTS: Mapping[str, tuple[str, ...]] = {
    "build": ("--backend", "--io-type", "--strategy", "--part", "--until", "--input-format", "--softmax"),
    "check": ("--backend", "--io-type", "--strategy", "--part", "--input-format", "--softmax"),
    "show": ("--input-format", "--softmax", "--weights"),
}
"""Command -> its options that take a number, and those that take a text of a few."""
FINE_VALUES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("build", "--samples"): ("999999999999999999999",),  # at most so many
    ("quantize", "--seed"): ("0",),
    **{(command, option): ("",) for command in ("build", "check") for option in ("--io-type", "--strategy", "--part")},
}
"""(Command, option) -> values that are taken; an empty text asks for the default."""
