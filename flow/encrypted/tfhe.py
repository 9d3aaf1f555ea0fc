"""Client and server under TFHE, by concrete-python: run as `python -m flow.encrypted.tfhe` in a folder of each.

    compile     the model's owner: a circuit into what the server runs and what the client encrypts for
    keys        the client: a secret key that stays, and an evaluation key for the server
    client      the client: encrypts samples that were not asked yet, decrypts replies that came
    server      the server: answers requests that have no reply yet

This module and what it imports need no TensorFlow, no hls4ml, and no NumPy 2, which concrete-python does not go with.
The folders hold a copy of them (`flow.pipeline.encryption`), so that any Python with concrete-python runs them.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flow.encrypted import messages
from flow.encrypted.circuit import from_arrays, outputs
from flow.encrypted.cuts import Table
from flow.encrypted.messages import EVALUATION, REPLY, REQUEST, SECRET, Message
from flow.encrypted.roles import (
    ABOUT,
    EVALUATION_KEY,
    RESULT,
    SAMPLES,
    SECRET_KEY,
    about_of,
    peak_bytes,
    reply_to,
    run_role,
    write_json,
)
from flow.errors import DataError, ToolMissingError, shown
from flow.runs import write_npz

SCHEME = "tfhe"
ERROR_PROBABILITY = 2.0**-40
"""At most, of one bootstrap."""
CIRCUIT, FOR_SERVER, FOR_CLIENT, RESULTS = "circuit.npz", "server.zip", "client.zip", "results"


def _library() -> Any:
    """Return concrete-python.

    Raises:
        ToolMissingError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from concrete import fhe
    except ImportError as error:
        raise ToolMissingError(
            f"concrete-python cannot be imported ({error})",
            remedy="in an environment of its own, run: pip install concrete-python==2.11.0 'setuptools<81'",
        ) from error
    return fhe


class Encrypted:
    """The arithmetic of `flow.encrypted.cuts` in concrete-python's terms, with each number as wide as is proved."""

    def __init__(self, fhe: Any) -> None:
        self._fhe = fhe

    def within(self, x: Any, high: int) -> Any:
        return self._fhe.hint(x, can_store=high)

    def bit(self, x: Any, position: int) -> Any:
        return self.within(self._fhe.bits(x)[position], 1)

    def above(self, x: Any, position: int, table: Table, high: int) -> Any:
        kept = self.within(self._fhe.truncate_bit_pattern(x, lsbs_to_remove=position), high << position)
        return self._looked_up(kept, lambda v: table(v >> position), table(np.arange(high + 1)))

    def table(self, x: Any, table: Table, high: int) -> Any:
        return self._looked_up(self.within(x, high), table, table(np.arange(high + 1)))

    def _looked_up(self, x: Any, table: Table, results: Any) -> Any:
        looked_up = self._fhe.univariate(lambda v: np.asarray(table(v), np.int64))(x)
        return self.within(looked_up, int(np.max(results)))


def compile_circuit(folder: Path) -> None:
    """Make what server and client need of a circuit; how wide numbers are is proved, and not measured on samples."""
    fhe, about = _library(), json.loads((folder / ABOUT).read_text())
    with np.load(folder / CIRCUIT, allow_pickle=False) as arrays:
        circuit = from_arrays(about["circuit"], dict(arrays))
    how = Encrypted(fhe)
    compiler = fhe.Compiler(lambda x: outputs(circuit, x, how), {"x": "encrypted"})
    settings = fhe.Configuration(p_error=ERROR_PROBABILITY, compress_evaluation_keys=True)  # 128 bits, its default
    made = compiler.compile([circuit.low, circuit.high], settings)
    made.server.save(str(folder / FOR_SERVER))
    made.client.save(str(folder / FOR_CLIENT))
    facts = {
        "bootstraps": made.programmable_bootstrap_count,
        "error_probability": made.p_error,
        "evaluation_key_bytes": made.size_of_bootstrap_keys + made.size_of_keyswitch_keys,
        "operations": made.complexity,
        "security": settings.security_level.name,
    }
    write_json(folder / ABOUT, {**about, "compiled": facts})


def make_keys(folder: Path) -> None:
    """Make the keys of a client: the secret one stays in its folder, the evaluation key is for the server."""
    fhe, model = _library(), about_of(folder)["model"]
    client = fhe.Client.load(str(folder / FOR_CLIENT))
    client.keys.generate(force=True)
    name = secrets.token_hex(16)
    evaluation = Message(kind=EVALUATION, scheme=SCHEME, model=model, keys=name,
                         payload=client.evaluation_keys.serialize())  # fmt: skip
    messages.write(folder / EVALUATION_KEY, evaluation)
    messages.write(folder / SECRET_KEY, Message(kind=SECRET, scheme=SCHEME, model=model, keys=name,
                                                payload=client.keys.serialize()))  # fmt: skip
    (folder / SECRET_KEY).chmod(0o600)


def run_client(folder: Path, exchanged: Path) -> None:
    """Encrypt the samples that were not asked yet, and decrypt the replies that came."""
    fhe, about = _library(), about_of(folder)
    kept = messages.read(folder / SECRET_KEY, kind=SECRET, scheme=SCHEME, model=about["model"])
    client = fhe.Client.load(str(folder / FOR_CLIENT))
    client.keys = fhe.Keys.deserialize(kept.payload)
    samples = np.load(folder / SAMPLES, allow_pickle=False)
    (folder / RESULTS).mkdir(exist_ok=True)
    codes = list[list[int]]()
    for number, sample in enumerate(samples):
        request, result = exchanged / f"request-{number:06}", folder / RESULTS / f"{number:06}.json"
        reply = reply_to(request)
        if result.exists():
            codes.append(json.loads(result.read_text())["codes"])
        elif reply.exists():
            came = messages.read(reply, kind=REPLY, scheme=SCHEME, model=about["model"], keys=kept.keys)
            with _of_library(reply):
                found = np.asarray(client.decrypt(fhe.Value.deserialize(came.payload)))
            codes.append((found + about["offset"]).tolist())
            write_json(result, {"codes": codes[-1]})
        elif not request.exists():
            value = client.encrypt(sample.reshape(-1).astype(np.int64))
            messages.write(request, Message(kind=REQUEST, scheme=SCHEME, model=about["model"], keys=kept.keys,
                                            number=number, payload=value.serialize()))  # fmt: skip
    if len(codes) == len(samples):
        write_npz(folder / RESULT, {"codes": np.array(codes, np.int64)})


def run_server(folder: Path, exchanged: Path) -> None:
    """Answer the requests that have no reply yet."""
    fhe, about = _library(), about_of(folder)
    sent = messages.read(folder / EVALUATION_KEY, kind=EVALUATION, scheme=SCHEME, model=about["model"])
    waiting = [path for path in sorted(exchanged.glob("request-*")) if not reply_to(path).exists()]
    asked = {
        path: messages.read(path, kind=REQUEST, scheme=SCHEME, model=about["model"], keys=sent.keys) for path in waiting
    }
    name, payload = sent.keys, sent.payload
    del sent  # or its bytes would stay beside the keys
    server, keys = fhe.Server.load(str(folder / FOR_SERVER)), fhe.EvaluationKeys.deserialize(payload)
    del payload
    for path, message in asked.items():
        started, cpu_started = time.perf_counter(), time.process_time()
        with _of_library(path):
            result = server.run(fhe.Value.deserialize(message.payload), evaluation_keys=keys).serialize()
        facts = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "peak_bytes": peak_bytes(),
        }
        reply = Message(kind=REPLY, scheme=SCHEME, model=about["model"], keys=name, number=message.number,
                        payload=result, facts=facts)  # fmt: skip
        messages.write(reply_to(path), reply)


@contextmanager
def _of_library(path: Path) -> Iterator[None]:
    """Name the message of which the library makes nothing: its errors have no class of their own.

    Raises:
        DataError: something inside failed.
    """
    try:
        yield
    except Exception as error:
        what = f"holds no numbers that are encrypted for this circuit ({shown(error)})"
        raise DataError(what, file=path, remedy="encrypt it again, by the client of this model") from error


ROLES: dict[str, Callable[..., None]] = {
    "compile": compile_circuit,
    "keys": make_keys,
    "client": run_client,
    "server": run_server,
}

if __name__ == "__main__":
    sys.exit(run_role(ROLES, sys.argv[1:]))
