"""A model under encryption: keys, a client and a server as processes of their own, and whether the codes are the same.

    DIR/client/      0700: what the client knows, its samples, its secret key
    DIR/server/      what the server knows; under TFHE the evaluation key that the client sent
    DIR/messages/    what they exchange
    DIR/report.json  the verdict

Each step that left its files is not done again, so the same command goes on where it was interrupted, and goes through
more samples where some are done.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import flow
from flow.data.inputs import to_port
from flow.data.session import Data
from flow.encrypted import bfv, messages, tfhe
from flow.encrypted.circuit import to_arrays
from flow.encrypted.matrices import circuit_of
from flow.encrypted.messages import REPLY
from flow.encrypted.plan import plan_of
from flow.encrypted.roles import ABOUT, EVALUATION_KEY, RESULT, SAMPLES, SECRET_KEY, about_of, write_json
from flow.errors import DataError, OutputError, SpecError, ToolMissingError, UnsupportedError, counted, shown
from flow.files import LOCK, locked
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.pipeline.live import Model, as_files
from flow.pipeline.models import extract_model
from flow.pipeline.options import BuildOptions
from flow.progress import Announce, progress
from flow.runs import outside_runs, read_npz, write_npz
from flow.toolchain import find_tool, require_tool, run_pool

SCHEMES = ("tfhe", "bfv")
LEVEL = "he"
REPORT, OWNER, UNFINISHED = "report.json", "model", "client.new"
CONCRETE = "concrete-python"
COPIED = (
    "__init__.py", "errors.py", "files.py", "json_text.py", "runs.py", "ir/__init__.py", "ir/fixed.py",
    *(f"encrypted/{name}.py" for name in ("__init__", "circuit", "cuts", "messages", "roles", "tfhe")),
)  # fmt: skip
"""Modules that a client and a server under TFHE run, in any Python that has concrete-python."""
MEMORY_OF_FILE, MEMORY_BESIDE = 4, 0.3e9
"""A server under TFHE has its keys in memory, when it reads them several times what their file has, and its program."""


def encrypt(
    model: Model,
    to: Path | str,
    *,
    scheme: str = "tfhe",
    samples: int = 2,
    options: BuildOptions | None = None,
    announce: Announce | None = None,
    x: Data = None,
) -> dict[str, Any]:
    """Run a model on encrypted samples: make client and server, let them exchange messages, compare the codes.

    Args:
        model: as `flow.build` takes it.
        to: folder of client and server, new or of the same model and scheme.
        scheme: "tfhe" (the server computes all of it) or "bfv" (the client requantizes between the layers).
        samples: how many.
        options: formats and inputs, as of `flow.build`.
        announce: called with what is done; without it a bar is shown on a terminal and in a notebook.
        x: samples, if `options` name no file of them.

    Returns:
        The report, as `report.json` in that folder.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    to = Path(to).absolute()
    if scheme not in SCHEMES:
        raise SpecError(
            f"there is no scheme {shown(scheme)}", field="scheme", remedy=f"use one of {', '.join(SCHEMES)}"
        )
    if samples < 1:
        raise SpecError(f"{samples} is below 1", field="samples")
    outside_runs(to)
    python = _python(scheme)
    with ExitStack() as held:
        announce = announce or held.enter_context(progress())
        path, kept = held.enter_context(as_files(model, options or BuildOptions(), x=x))
        announce("reading the model")
        extracted = extract_model(path, kept)
        graph = lower(extracted.graph)
        if extracted.samples is None:
            raise DataError("there are no samples to encrypt", model=graph.name, remedy="give --inputs")
        if len(graph.outputs) != 1:
            raise UnsupportedError(
                f"has {len(graph.outputs)} outputs, and one is computed under encryption", model=graph.name
            )
        codes = to_port(extracted.samples, graph).codes[:samples]
        held.enter_context(locked(to))
        _check_folder(to, graph, scheme)
        return _run(graph, codes, to, scheme, python, announce)


def _python(scheme: str) -> str:
    """Return the interpreter that has the library of a scheme."""
    if scheme == "bfv":
        if find_spec("tenseal") is None:
            raise ToolMissingError("package 'tenseal' is not installed", remedy=bfv.INSTALL)
        return sys.executable
    return sys.executable if find_spec("concrete") and not find_tool(CONCRETE) else require_tool(CONCRETE)


def _check_folder(to: Path, graph: IntGraph, scheme: str) -> None:
    client = to / "client"
    if client.exists():
        about = about_of(client)
        if (about["model"], about.get("scheme")) != (graph.digest(), scheme):
            raise OutputError("holds a client of another model or scheme", file=to, remedy="name another folder")
    elif not (to / UNFINISHED).exists() and any(path.name != LOCK for path in to.iterdir()):
        raise OutputError("is there and is not empty", file=to, remedy="name another folder, or remove it")


def _run(graph: IntGraph, codes: Codes, to: Path, scheme: str, python: str, announce: Announce) -> dict[str, Any]:
    client, server, exchanged = to / "client", to / "server", to / "messages"

    def role(name: str, folder: Path, words: str, done: Callable[[], int] = lambda: 0, of: int = 0) -> None:
        announce(words, done(), of)
        command = [python, "-W", "ignore", "-m", f"flow.encrypted.{scheme}", name, str(folder)]
        command += [str(exchanged)] if name in ("client", "server") else []
        run_pool({"": command}, folder, None, lambda _: None, lambda: announce(words, done(), of))

    if not client.exists():
        _prepare(graph, to, scheme, role)
    about = about_of(client)
    if not (client / SECRET_KEY).exists():
        role("keys", client, "making keys")
    if scheme == "tfhe" and not (server / EVALUATION_KEY).exists():  # the first message
        shutil.move(client / EVALUATION_KEY, server / EVALUATION_KEY)
    _give(client, exchanged, codes)
    words = f"encrypted inference ({scheme}{_memory(about, server / EVALUATION_KEY)})"
    rounds = plan_of(graph).rounds if scheme == "bfv" else len(codes)
    while not (client / RESULT).exists():
        role("client", client, "client: encrypting and decrypting")
        if not (client / RESULT).exists():
            _check(exchanged, about, scheme)
            role("server", server, words, lambda: len(list(exchanged.glob("reply-*"))), rounds)
    result = read_npz(client / RESULT)["codes"].reshape(len(codes), -1)
    report = _report(graph, codes, result, to, scheme)
    write_json(to / REPORT, report)
    return report


def _prepare(graph: IntGraph, to: Path, scheme: str, role: Callable[..., None]) -> None:
    """Make the folders of client and server; the client's appears last, when all is there."""
    server, new = to / "server", to / UNFINISHED
    for folder in (new, server, to / "messages"):  # the first says that the others are being made
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    new.chmod(0o700)
    if scheme == "bfv":
        bfv.prepare(graph, new, server)
    else:
        owner = to / OWNER
        shutil.rmtree(owner, ignore_errors=True)
        circuit = circuit_of(graph)
        about, arrays = to_arrays(circuit)
        for folder in (owner, server, new):
            _copy_package(folder)
        write_npz(owner / tfhe.CIRCUIT, arrays)
        write_json(owner / ABOUT, {"scheme": scheme, "model": graph.digest(), "circuit": about})
        role("compile", owner, "compiling the circuit")
        made = about_of(owner)
        said = {name: made[name] for name in ("scheme", "model", "compiled")} | {"offset": circuit.last.cut.low}
        for folder, name in ((server, tfhe.FOR_SERVER), (new, tfhe.FOR_CLIENT)):
            shutil.copy(owner / name, folder / name)
            write_json(folder / ABOUT, said)
    new.rename(to / "client")


def _copy_package(folder: Path) -> None:
    """Copy the modules that a side runs into its folder."""
    source = Path(flow.__file__).parent
    for name in COPIED:
        target = folder / "flow" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target)


def _give(client: Path, exchanged: Path, codes: Codes) -> None:
    """Give the client its samples; if they begin as those before, what is done of these stays done."""
    path = client / SAMPLES
    before = np.load(path, allow_pickle=False) if path.exists() else codes[:0]
    if before.shape == codes.shape and np.array_equal(before, codes):
        return
    shared = min(len(before), len(codes))
    goes_on = (client / tfhe.FOR_CLIENT).exists() and np.array_equal(before[:shared], codes[:shared])
    (client / RESULT).unlink(missing_ok=True)
    if not goes_on:
        for each in (*exchanged.iterdir(), *client.glob("sums-*"), *client.glob(f"{tfhe.RESULTS}/*")):
            each.unlink()
    np.save(path, codes)


def _memory(about: dict[str, Any], key: Path) -> str:
    """Return what the server's memory will be, in words."""
    if "compiled" not in about:
        return ""
    most = about["compiled"]["evaluation_key_bytes"] + key.stat().st_size * MEMORY_OF_FILE + MEMORY_BESIDE
    return f", at most {most / 1e9:.1f} GB of memory"


def _check(exchanged: Path, about: dict[str, Any], scheme: str) -> None:
    """Refuse replies of before that are damaged or another's: the client would, and as a program that failed."""
    for path in sorted(exchanged.glob("re*-*")):
        kind = REPLY if path.name.startswith("reply") else messages.REQUEST
        messages.read(path, kind=kind, scheme=scheme, model=about["model"])


def _report(graph: IntGraph, codes: Codes, result: Codes, to: Path, scheme: str) -> dict[str, Any]:
    """Return the verdict, and what it took."""
    expected = reference.run_output(graph, codes).reshape(len(codes), -1)
    mismatches = int(np.count_nonzero(result != expected))
    about, exchanged = about_of(to / "client"), to / "messages"
    facts = [
        dict(messages.read(path, kind=REPLY, scheme=scheme, model=about["model"]).facts or {})
        for path in sorted(exchanged.glob("reply-*"))
    ]
    sizes = {kind: sum(path.stat().st_size for path in exchanged.glob(f"{kind}-*")) for kind in ("request", "reply")}
    verdict = {
        "bit_exact": mismatches == 0,
        "samples": len(codes),
        "mismatches": mismatches,
        "compared": ["reference", LEVEL],
    }
    server = {
        "seconds": sum(each["seconds"] for each in facts),
        "cpu_seconds": sum(each["cpu_seconds"] for each in facts),
        "peak_bytes": max(each["peak_bytes"] for each in facts),
    }
    exchange = {"requests": len(facts), "bytes_up": sizes["request"], "bytes_down": sizes["reply"]}
    report: dict[str, Any] = {
        "schema": 1,
        "model": graph.name,
        "scheme": scheme,
        "verdict": verdict,
        "server": server,
        "exchange": exchange,
        "plan": plan_of(graph).to_json()[scheme],
    }
    return report | _security(about, scheme, to)


def _security(about: dict[str, Any], scheme: str, to: Path) -> dict[str, Any]:
    """Return what an attacker would have to do, who says so, and how likely a wrong result is."""
    if scheme == "bfv":
        return {
            "security": {"bits": 128, "source": bfv.SECURITY},
            "failure_probability": 0.0,  # noise is read before each decryption
            "leaks": "the client sees every sum of a dense layer or a convolution; the server sees ciphertexts",
        }
    compiled = about["compiled"]
    source = f"concrete-python's optimizer, {compiled['security']}, by its table of lattice-estimator curves"
    bound = compiled["error_probability"] * compiled["bootstraps"]
    return {
        "security": {"bits": 128, "source": source},
        "failure_probability": bound,
        "bootstraps": compiled["bootstraps"],
        "evaluation_key_bytes": (to / "server" / EVALUATION_KEY).stat().st_size,
        "leaks": "the client sees the output; the server sees ciphertexts",
    }


def to_text(report: dict[str, Any]) -> str:
    """Return a report of `encrypt` for people."""
    verdict, server, exchange = report["verdict"], report["server"], report["exchange"]
    samples = counted(verdict["samples"], "sample")
    same = "BIT EXACT" if verdict["bit_exact"] else f"DIFFERENT: {counted(verdict['mismatches'], 'output element')}"
    failure = report["failure_probability"]
    lines = [
        f"{report['model']} under {report['scheme']}: {same}; reference and {LEVEL}, {samples}",
        f"  server: {server['seconds'] / verdict['samples']:.3g} s a sample "
        f"({server['cpu_seconds'] / verdict['samples']:.3g} s of all cores), "
        f"{server['peak_bytes'] / 1e9:.2f} GB of memory",
        f"  exchanged: {counted(exchange['requests'], 'request')}, {exchange['bytes_up'] / 1e6:.2f} MB up, "
        f"{exchange['bytes_down'] / 1e6:.2f} MB down",
        f"  security: {report['security']['bits']} bits ({report['security']['source']})",
        f"  a wrong result by chance: {f'{failure:.1e} a sample at most' if failure else 'none'}",
        f"  {report['leaks']}",
    ]
    return "\n".join(lines)
