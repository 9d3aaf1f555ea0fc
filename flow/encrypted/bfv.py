"""Client and server under BFV, by SEAL as TenSEAL brings it: run as `python -m flow.encrypted.bfv`.

    keys        the client: a secret key that stays
    client      the client: decrypts the sums that came, computes on to the next, encrypts what these read
    server      the server: answers requests that have no reply yet

A ciphertext holds one number of thousands of rows: of each sample for a dense layer, of each position of each sample
for a convolution. So a sum of products is products with constants and additions, of ciphertexts as they are: nothing is
rotated, and the server needs no key at all.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flow.encrypted import messages
from flow.encrypted.messages import REPLY, REQUEST, SECRET, Message
from flow.encrypted.roles import (
    ABOUT,
    RESULT,
    SAMPLES,
    SECRET_KEY,
    about_of,
    peak_bytes,
    reply_to,
    run_role,
    write_json,
)
from flow.errors import DataError, ToolMissingError, UnsupportedError
from flow.files import temporary
from flow.ir import ops
from flow.ir.fixed import Codes, Constant
from flow.ir.graph import IntGraph, from_json, to_json
from flow.ir.intervals import accumulation
from flow.ir.steps import cast, step_of
from flow.runs import read_npz, write_npz

SCHEME = "bfv"
INSTALL = "run: pip install 'po2flow[encrypted]'  (Python 3.11 and later)"
SECURITY = "coefficients as SEAL gives them for TC128, after HomomorphicEncryption.org's standard of 2018"
WEIGHTS, GRAPH, SUMS = "weights.npz", "graph.json", "sums.npz"
ROOM_BITS = {4096: 72, 8192: 174}
"""Degree -> bits of coefficients that computing may use: SEAL's for 128 bits of security, without the last prime."""
SPARE_BITS = 12
"""Bits for the noise of an encryption."""
LEAST_MODULUS_BITS = 17


def parameters_of(graph: IntGraph) -> dict[str, int]:
    """Return degree and bits of the modulus that hold every sum of a graph, with the noise of computing it.

    Raises:
        UnsupportedError: a sum is too wide.
    """
    bits, growth = LEAST_MODULUS_BITS, 1.0
    for op in graph.ops:
        if isinstance(op, ops.MatMul):
            acc = accumulation(op, graph.sources(op)[0].format)
            bits = max(bits, acc.bound.bit_length() + 2)
            growth = max(growth, float((np.abs(op.matrix()) << acc.shifts[0]).sum(axis=0).max(initial=1)))
    for degree, room in ROOM_BITS.items():
        if 2 * bits + math.log2(growth) + SPARE_BITS <= room:
            return {"degree": degree, "modulus_bits": bits}
    what = f"a sum needs a modulus of {bits} bits, more than SEAL's parameters for 8192 slots hold"
    raise UnsupportedError(what, remedy="quantize more coarsely")


def prepare(graph: IntGraph, client: Path, server: Path) -> None:
    """Write what a client and a server know: the client no weights of sums, the server no formats.

    Raises:
        UnsupportedError: a sum is too wide, or an op cannot be split between the two.
    """
    weights, hidden, grids = dict[str, Codes](), list[Any](), dict[str, Any]()
    for op in graph.ops:
        if isinstance(op, ops.Scan):  # its weights would be the client's to see
            raise UnsupportedError("a recurrent layer is not computed under encryption", model=graph.name, op=op.name)
        if not isinstance(op, ops.MatMul):
            hidden.append(op)
            continue
        x = graph.sources(op)[0]
        acc, matrix = accumulation(op, x.format), op.matrix()
        read = np.flatnonzero(matrix.any(axis=1))
        weights |= {
            f"{op.name}/matrix": matrix[read] << acc.shifts[0],
            f"{op.name}/bias": op.bias.codes << acc.shifts[1],
        }
        grids[op.name] = {"frac_bits": acc.frac_bits, "read": read.tolist()}
        hidden.append(_without_weights(op))
    about = {"scheme": SCHEME, "model": graph.digest(), "parameters": parameters_of(graph), "grids": grids}
    blind = IntGraph(name=graph.name, ops=tuple(hidden), outputs=graph.outputs)
    write_json(client / ABOUT, about)
    write_json(client / GRAPH, to_json(blind))
    write_json(server / ABOUT, {name: about[name] for name in ("scheme", "model", "parameters")})
    write_npz(server / WEIGHTS, weights)


def _without_weights(op: ops.MatMul) -> ops.MatMul:
    zeros = Constant(np.zeros_like(op.weight.codes), op.weight.format)
    return replace(op, weight=zeros, bias=Constant(np.zeros_like(op.bias.codes), op.bias.format), channel_bits=())


class Seal:
    """SEAL with the parameters of a model.

    Raises:
        ToolMissingError: TenSEAL is not installed.
    """

    def __init__(self, degree: int, modulus_bits: int) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import tenseal.sealapi as seal
        except ImportError as error:
            what = f"TenSEAL cannot be imported ({error})"
            raise ToolMissingError(what, remedy=INSTALL) from error
        level = seal.SEC_LEVEL_TYPE.TC128
        chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        chosen.set_poly_modulus_degree(degree)
        chosen.set_coeff_modulus(seal.CoeffModulus.BFVDefault(degree, level))
        chosen.set_plain_modulus(seal.PlainModulus.Batching(degree, modulus_bits))
        self.api, self.modulus = seal, chosen.plain_modulus().value()
        self.context = seal.SEALContext(chosen, True, level)
        self.encoder, self.slots = seal.BatchEncoder(self.context), degree

    def constant(self, number: int) -> Any:
        """Return a plaintext with the same number in each slot."""
        return self.api.Plaintext(f"{number % self.modulus:X}")

    def to_bytes(self, value: Any, scratch: Path) -> bytes:
        """Return what SEAL saves of a value."""
        value.save(str(scratch / "value"))
        return (scratch / "value").read_bytes()

    def ciphertext(self, content: bytes, scratch: Path) -> Any:
        """Return a ciphertext from its bytes.

        Raises:
            DataError: they are none for these parameters.
        """
        (scratch / "value").write_bytes(content)
        value = self.api.Ciphertext()
        try:
            value.load(self.context, str(scratch / "value"))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"holds no ciphertext of this model ({error})", remedy="encrypt it again") from error
        return value


def make_keys(folder: Path) -> None:
    """Make the secret key of a client."""
    about = about_of(folder)
    seal = Seal(**about["parameters"])
    with temporary() as scratch:
        secret = seal.to_bytes(seal.api.KeyGenerator(seal.context).secret_key(), scratch)
    key = Message(kind=SECRET, scheme=SCHEME, model=about["model"], keys=secrets.token_hex(16), payload=secret)
    messages.write(folder / SECRET_KEY, key)
    (folder / SECRET_KEY).chmod(0o600)


def run_client(folder: Path, exchanged: Path) -> None:
    """Compute on from the sums that came, as far as it goes without others, and ask for those."""
    about = about_of(folder)
    graph = from_json(json.loads((folder / GRAPH).read_text()))
    samples = np.load(folder / SAMPLES, allow_pickle=False)
    values: dict[str, Codes] = {name: np.asarray(part) for name, part in graph.split_port(samples).items()}
    place, asked = (slice(0, len(samples)),), 0
    for op in graph.ops:
        if isinstance(op, ops.Input):
            continue
        inputs = [values[name] for name in op.inputs]
        if isinstance(op, ops.MatMul):
            sums = _Sums(folder, exchanged, about, op, asked).of(_rows(op, inputs[0]))
            if sums is None:
                return
            asked += 1
            values[op.name] = op.cast(sums.reshape(-1, *op.shape), about["grids"][op.name]["frac_bits"])
        else:
            step = step_of(op, *graph.sources(op))
            result = step.apply(place, *inputs)
            values[op.name] = np.asarray(cast(result, step) if step.casts and not step.chooses else result, np.int64)
    write_npz(folder / RESULT, {"codes": values[graph.output.name]})


def _rows(op: ops.MatMul, x: Codes) -> Codes:
    """Return what each sum of an op reads, a row for each position of each sample."""
    if not isinstance(op, ops.Conv):
        return x.reshape(-1, x.shape[-1])
    places = op.window.places(x.shape[1:])
    pixels = np.concatenate([x.reshape(len(x), -1, x.shape[-1]), np.zeros((len(x), 1, x.shape[-1]), x.dtype)], axis=1)
    return pixels[:, places].reshape(len(x) * len(places), -1)  # place -1 is the zero


class _Sums:
    """The sums of one op, as the client has them or asks for them."""

    def __init__(self, folder: Path, exchanged: Path, about: dict[str, Any], op: ops.MatMul, number: int) -> None:
        self._folder, self._about, self._op, self._number = folder, about, op, number
        self._request = exchanged / f"request-{number:06}"
        self._kept = folder / f"sums-{number:06}.npz"

    def of(self, rows: Codes) -> Codes | None:
        """Return int64 (rows, sums); None if the server is asked for them."""
        if self._kept.exists():
            return read_npz(self._kept)["sums"]
        key = messages.read(self._folder / SECRET_KEY, kind=SECRET, scheme=SCHEME, model=self._about["model"])
        seal = Seal(**self._about["parameters"])
        with temporary() as scratch:
            secret = seal.api.SecretKey()
            (scratch / "key").write_bytes(key.payload)
            secret.load(seal.context, str(scratch / "key"))
            if reply_to(self._request).exists():
                sums = self._decrypt(seal, secret, key, len(rows), scratch)
                write_npz(self._kept, {"sums": sums})
                return sums
            if not self._request.exists():
                self._ask(seal, secret, key, rows, scratch)
        return None

    def _ask(self, seal: Seal, secret: Any, key: Message, rows: Codes, scratch: Path) -> None:
        encryptor, parts = seal.api.Encryptor(seal.context, secret), list[bytes]()
        read = self._about["grids"][self._op.name]["read"]
        for start in range(0, len(rows), seal.slots):
            for column in read:
                plain = seal.api.Plaintext()
                seal.encoder.encode(rows[start : start + seal.slots, column].astype(np.int64).tolist(), plain)
                parts.append(seal.to_bytes(encryptor.encrypt_symmetric(plain), scratch))
        facts = {"op": self._op.name, "sizes": [len(part) for part in parts], "rows": len(rows)}
        asked = Message(kind=REQUEST, scheme=SCHEME, model=key.model, keys=key.keys, number=self._number,
                        payload=b"".join(parts), facts=facts)  # fmt: skip
        messages.write(self._request, asked)

    def _decrypt(self, seal: Seal, secret: Any, key: Message, rows: int, scratch: Path) -> Codes:
        path = reply_to(self._request)
        came = messages.read(path, kind=REPLY, scheme=SCHEME, model=key.model, keys=key.keys)
        facts, decryptor = dict(came.facts or {}), seal.api.Decryptor(seal.context, secret)
        sums = np.empty((rows, len(facts["constant"])), np.int64)
        sums[:] = [each or 0 for each in facts["constant"]]
        parts = _split(came.payload, facts["sizes"])
        for start in range(0, rows, seal.slots):
            for column, constant in enumerate(facts["constant"]):
                if constant is not None:
                    continue
                value, plain = seal.ciphertext(next(parts), scratch), seal.api.Plaintext()
                if decryptor.invariant_noise_budget(value) <= 0:
                    raise DataError("is not to be decrypted: its noise is too large, or the keys are others", file=path)
                decryptor.decrypt(value, plain)
                part = sums[start : start + seal.slots, column]
                part[:] = seal.encoder.decode_int64(plain)[: len(part)]
        return sums


def run_server(folder: Path, exchanged: Path) -> None:
    """Answer the requests that have no reply yet."""
    about = about_of(folder)
    seal, weights = Seal(**about["parameters"]), read_npz(folder / WEIGHTS)
    for path in sorted(exchanged.glob("request-*")):
        if reply_to(path).exists():
            continue
        started, cpu_started = time.perf_counter(), time.process_time()
        asked = messages.read(path, kind=REQUEST, scheme=SCHEME, model=about["model"])
        facts = dict(asked.facts or {})
        matrix, bias = weights[f"{facts['op']}/matrix"], weights[f"{facts['op']}/bias"]
        parts = list(_split(asked.payload, facts["sizes"]))
        if len(parts) != len(matrix) * -(-facts["rows"] // seal.slots):
            raise DataError(f"has {len(parts)} ciphertexts, which are not those that '{facts['op']}' reads", file=path)
        with temporary() as scratch:
            answers: list[bytes] = []
            for start in range(0, len(parts), len(matrix)):
                read = [seal.ciphertext(part, scratch) for part in parts[start : start + len(matrix)]]
                sums = (_sum(seal, read, matrix[:, column], int(bias[column])) for column in range(matrix.shape[1]))
                answers += [seal.to_bytes(each, scratch) for each in sums if each is not None]
        constant = [None if matrix[:, column].any() else int(bias[column]) for column in range(matrix.shape[1])]
        said = {"sizes": [len(answer) for answer in answers], "constant": constant, "peak_bytes": peak_bytes()}
        said |= {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
        reply = Message(kind=REPLY, scheme=SCHEME, model=about["model"], keys=asked.keys, number=asked.number,
                        payload=b"".join(answers), facts=said)  # fmt: skip
        messages.write(reply_to(path), reply)


def _sum(seal: Seal, read: Sequence[Any], weights: Codes, bias: int) -> Any | None:
    """Return a ciphertext of a weighted sum; None if nothing is weighted."""
    evaluator, total = seal.api.Evaluator(seal.context), None
    for number in np.flatnonzero(weights).tolist():
        product = seal.api.Ciphertext()
        evaluator.multiply_plain(read[number], seal.constant(int(weights[number])), product)
        if total is None:
            total = product
        else:
            evaluator.add_inplace(total, product)
    if total is not None and bias:
        evaluator.add_plain_inplace(total, seal.constant(bias))
    return total


def _split(payload: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield payload[start : start + size]
        start += size


ROLES: dict[str, Callable[..., None]] = {"keys": make_keys, "client": run_client, "server": run_server}

if __name__ == "__main__":
    sys.exit(run_role(ROLES, sys.argv[1:]))
