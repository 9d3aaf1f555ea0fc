"""Bad files and arguments beside the model: samples, labels, reports of vendors, records of a run, options.

Each row is a command line in which MODEL, RUN and FILE stand for a model, a finished run and the bad file. A damaged
record makes its stage run again, or is refused; everything else is refused. `hostile_files` has bad models.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import odd_inputs

REPORTS = Path(__file__).parent / "data" / "reports"
MODEL, RUN, FILE = "MODEL", "RUN", "FILE"
REFUSED = (2,)


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad file or argument.

    Attributes:
        arguments: of `flow`.
        content: of FILE, or what makes it of nothing at its path; None if there is none.
        suffix: of its name.
        harm: what is done to the run before, given its directory.
        codes: exit codes that are right.
    """

    arguments: tuple[str, ...]
    content: bytes | Callable[[Path], object] | None = None
    suffix: str = ".npy"
    harm: Callable[[Path], object] | None = None
    codes: tuple[int, ...] = REFUSED


def _npy(values: Any, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=allow_pickle)
    return file.getvalue()


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _declared(shape: tuple[int, ...]) -> bytes:
    """Return a file that declares more than it holds."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


GOOD = np.zeros((4, 4, 4, 1), np.float32)
BUILD = ("build", MODEL, "--until", "emit", "--output", "runs")
SAMPLES: Mapping[str, bytes | Callable[[Path], object]] = {
    "empty": b"",
    "text": b"not an array\n",
    "CSV": b"1,2,3\n4,5,6\n",
    "pickle": pickle.dumps([1, 2, 3]),
    "an array of objects": _npy(np.array([{}], dtype=object), allow_pickle=True),
    "cut off": _npy(GOOD)[:-7],
    "a zip of nothing": b"PK\x05\x06" + bytes(18),
    "NaN": _npy(GOOD * np.nan),
    "infinite": _npy(GOOD + np.inf),
    "text in an array": _npy(np.array(["a", "b"])),
    "complex": _npy(GOOD.astype(complex)),
    "records": _npy(np.zeros(3, [("a", "<f4"), ("b", "<i4")])),
    "dates": _npy(np.zeros(4, "datetime64[s]")),
    "no samples": _npy(GOOD[:0]),
    "a scalar": _npy(np.float32(1)),
    "another shape": _npy(np.zeros((4, 9), np.float32)),
    "10^15 declared": _declared((10**15, 16)),
    "a negative size declared": _declared((-1, 16)),
    "a directory": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
    "a device": lambda path: path.symlink_to("/dev/null"),
    "nothing": lambda path: None,
}
"""What `--inputs` is given."""
LABELS: Mapping[str, bytes] = {
    "too few": _npy(np.zeros(3, np.int64)),
    "fractions": _npy(np.full(4, 0.5)),
    "text": _npy(np.array(list("abcd"))),
    "negative": _npy(np.array([0, -1, 1, 2])),
    "beyond the classes": _npy(np.array([0, 1, 2, 3])),
    "one axis too many": _npy(np.zeros((4, 3), np.int64)),
}
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "no width": ("--input-format", "fixed<0,0>"),
    "a width of 1000": ("--input-format", "fixed<1000,5>"),
    "a format of floats": ("--input-format", "float32"),
    "a softmax format": ("--softmax", "yes"),
    "a clock of nothing": ("--clock-period-ns", "0"),
    "a clock that is no number": ("--clock-period-ns", "nan"),
    "an infinite clock": ("--clock-period-ns", "inf"),
    "a negative clock": ("--clock-period-ns", "-5"),
    "a reuse factor of 0": ("--reuse-factor", "0"),
    "a reuse factor of an op that is none": ("--strategy", "Resource", "--reuse-factor", "nothing=2"),
    "a part that is none": ("--part", "xc7z020"),
    "a part with code": ("--part", "x; exec touch was_here"),
    "a back end that is none": ("--backend", "vitis_hls"),
    "a stage that is none": ("--until", "bitstream"),
    "no samples": ("--samples", "0"),
    "few adversarial inputs": ("--adversarial", "1"),
    "labels alone": ("--labels", "labels.npy"),
    "an option that is none": ("--optimize",),
    "weights beside a model that has some": ("--weights", "w.h5"),
}
XML = (REPORTS / "vitis_hls_csynth.xml").read_text()


def _xml(tag: str, value: str) -> bytes:
    text, count = re.subn(rf"(<{tag}>)[^<]*(</{tag}>)", rf"\g<1>{value}\2", XML, count=1)
    assert count == 1, tag
    return text.encode()


LAUGHS = '<!DOCTYPE x [<!ENTITY a "' + "ha" * 100 + '">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 20}">' for i in range(8)
) + "]>"  # fmt: skip
ELSEWHERE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
VENDOR: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", ".xml"),
    "another document": (b"<a><b/></a>", ".xml"),
    "cut off": (XML[: len(XML) // 2].encode(), ".xml"),
    "5,000 digits": (_xml("LUT", "9" * 5000), ".xml"),
    "an infinite period": (_xml("TargetClockPeriod", "1e999"), ".xml"),
    "a negative period": (_xml("TargetClockPeriod", "-5"), ".xml"),
    "no number": (_xml("EstimatedClockPeriod", "nan"), ".xml"),
    "a negative count": (_xml("FF", "-1"), ".xml"),
    "a fraction of a LUT": (_xml("LUT", "0.5"), ".xml"),
    "a billion laughs": ((LAUGHS + XML.replace("<LUT>", "<LUT>&i;", 1)).encode(), ".xml"),
    "an entity from elsewhere": (
        (ELSEWHERE + XML.replace("<LUT>", "<LUT>&e;", 1)).encode(), ".xml"
    ),
    "bytes": (bytes(range(256)) * 8, ".rpt"),
    "a table without an end": ((REPORTS / "vivado_utilization_ultrascale.rpt").read_bytes()[:900], ".rpt"),
    "a figure of 5,000 digits": (
        re.sub(rb"\| +\d+ \|", b"| " + b"9" * 5000 + b" |", (REPORTS / "vivado_hierarchy.rpt").read_bytes()), ".rpt"
    ),
    "a summary of nothing": (b"Fitter Status : Successful\n", ".fit.summary"),
}  # fmt: skip


def _rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def harm(run: Path) -> None:
        path = next(iter(sorted(run.glob(name))))
        path.write_bytes(change(path.read_bytes()))

    return harm


def _gone(name: str) -> Callable[[Path], object]:
    return lambda run: next(iter(sorted(run.glob(name)))).unlink()


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _bit(content: bytes) -> bytes:
    place = len(content) * 2 // 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE: Mapping[str, Callable[[bytes], bytes]] = {
    "cut off": _half,
    "one bit": _bit,
    "emptied": lambda content: b"",
    "other JSON": lambda content: b"[1]",
}
RECORDS = ("manifest.json", "graph.json", "inputs.npz", "report.json", "csim/*/csim", "model/*.json")
MANIFESTS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "no target": lambda data: data.pop("target"),
    "another target": lambda data: data["target"].update(backend="nobody"),
    "no stages": lambda data: data.update(stages={}),
    "stages that are text": lambda data: data.update(stages="all"),
    "no digests": lambda data: data.update(files={}),
    "digests that are lists": lambda data: data.update(files={"graph.json": []}),
}


def _manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def changed(content: bytes) -> bytes:
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    return _rewritten("manifest.json", changed)


def _records() -> dict[str, Bad]:
    """Return what is done to the records of a run, and to its folders."""
    harms = {
        f"{record} {name}": _rewritten(record, change) for record in RECORDS for name, change in DAMAGE.items()
    } | {f"{record} gone": _gone(record) for record in RECORDS}
    harms |= {f"manifest: {name}": _manifest(change) for name, change in MANIFESTS.items()}
    harms["the project is a file"] = lambda run: (
        (run / "project").rename(run / "was"),
        (run / "project").write_text(""),
    )
    harms["no project"] = lambda run: (run / "project").rename(run / "was")
    return {name: Bad(("compare", RUN), harm=harm, codes=(0, 1, 2)) for name, harm in harms.items()}


TOML: Mapping[str, bytes] = {
    "empty": b"",
    "no TOML": b"[[[",
    "bytes": bytes(range(256)),
    "an unknown key": b"speed = 3\n",
    "a table for a number": b"[bits]\nweights = {}\n",
    "an infinite number": b"bits = inf\n",
    "10^30": b"bits = 1000000000000000000000000000000\n",
}
KINDS: Mapping[str, Mapping[str, Bad]] = {
    "samples": {name: Bad((*BUILD, "--inputs", FILE), content) for name, content in SAMPLES.items()},
    "labels": {
        name: Bad((*BUILD, "--inputs", "good.npy", "--labels", FILE), content) for name, content in LABELS.items()
    },
    "options": {name: Bad((*BUILD, *options)) for name, options in OPTIONS.items()},
    "vendor reports": {
        name: Bad(("report", RUN, "--vendor", FILE), content, suffix, codes=(2, 4))
        for name, (content, suffix) in VENDOR.items()
    },
    "records of a run": _records(),
    "counterexamples": {
        name: Bad(("compare", RUN, "--inputs", FILE), content, ".npz")
        for name, content in {
            "empty": b"",
            "no codes": _npz(a=np.zeros(3)),
            "fractions": _npz(codes=np.full((1, 4, 4, 1), 0.5)),
            "another shape": _npz(codes=np.zeros((1, 3), np.int64)),
            "beyond the port": _npz(codes=np.full((1, 4, 4, 1), 10**6)),
            "none": _npz(codes=np.zeros((0, 4, 4, 1), np.int64)),
        }.items()
    },
    "specs": {
        **{name: Bad(("build", FILE), content, ".toml") for name, content in TOML.items()},
        **{
            f"settings: {name}": Bad(("quantize", MODEL, "--spec", FILE, "--output", "runs"), content, ".toml")
            for name, content in TOML.items()
            if name != "empty"
        },
    },
    "findings": {
        name: Bad(("fuzz", "--replay", FILE), content, ".json")
        for name, content in {
            "empty": b"",
            "a list": b"[]",
            "no recipe": b"{}",
            "another recipe": b'{"recipe": {"name": 3}}',
            "a Lambda": json.dumps(
                {
                    "recipe": {
                        "name": "evil",
                        "config": {
                            "name": "evil",
                            "layers": [
                                {
                                    "class_name": "InputLayer",
                                    "config": {"batch_input_shape": [None, 4], "dtype": "float32", "name": "x"},
                                    "name": "x",
                                    "inbound_nodes": [],
                                },
                                {
                                    "class_name": "Lambda",
                                    "config": {
                                        "name": "l",
                                        "function": ["4wEA", None, None],
                                        "function_type": "lambda",
                                    },
                                    "name": "l",
                                    "inbound_nodes": [[["x", 0, 0, {}]]],
                                },
                            ],
                            "input_layers": [["x", 0, 0]],
                            "output_layers": [["l", 0, 0]],
                        },
                        "seed": 1,
                    }
                }
            ).encode(),
        }.items()
    },
}
"""Every bad file and argument, by kind and name; below, those that are only odd, of `odd_inputs`."""
BUILD_DIGITS = ("build", "digits_mlp", "--until", "emit", "--output", "runs")


def _beside_samples(name: str, content: bytes) -> Callable[[Path], object]:
    """Return what writes a file of labels, if it has a name, and samples beside it."""

    def write(path: Path) -> None:
        (path.parent / "x.npy").write_bytes(odd_inputs.saved(odd_inputs.ONES))
        if name:
            path.write_bytes(content)

    return write


ODD: Mapping[str, Mapping[str, Bad]] = {
    "odd samples": {
        name: Bad((*BUILD_DIGITS, "--inputs", FILE), content, Path(file).suffix, codes=(0,) if fine else REFUSED)
        for name, (file, content) in odd_inputs.ARRAYS.items()
        for fine in [name in odd_inputs.FINE_ARRAYS]
    },
    "odd labels": {
        name: Bad(
            (*BUILD_DIGITS, "--inputs", "x.npy", "--labels", FILE),
            _beside_samples(file, content),
            Path(file).suffix,
            codes=(0,) if name in odd_inputs.FINE_LABELS else REFUSED,
        )
        for name, (file, content) in odd_inputs.LABELS.items()
    },
    "odd documents": {
        name: Bad(
            tuple(FILE if word == "{file}" else word for word in command),
            text if isinstance(text, bytes) else text.encode(),
            ".json" if name.startswith("replay") else ".toml",
        )
        for name, (command, text) in odd_inputs.DOCUMENTS.items()
    },
}
KINDS = {**KINDS, **ODD}
