"""Client and server under BFV: whole rounds with the numbers in the open, and with SEAL where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import Net, s, u
from zoo import ints, row

from flow.encrypted import bfv
from flow.encrypted.roles import RESULT, SAMPLES, SECRET_KEY
from flow.errors import DataError, UnsupportedError
from flow.ir import reference
from flow.ir.graph import IntGraph, from_json
from flow.ir.passes import lower
from flow.runs import read_npz

SECRET = b"the secret key of a test"


class Open:
    """SEAL as `flow.encrypted.bfv` uses it, with slots of integers that anybody can read."""

    def __init__(self, degree: int, modulus_bits: int) -> None:
        self.api, self.context, self.encoder = self, None, self
        self.slots, self.modulus = 32, (1 << modulus_bits) - 1
        self.Plaintext = self.Ciphertext = self.SecretKey = Slots

    def constant(self, number: int) -> Any:
        return Slots(np.full(self.slots, number % self.modulus))

    def to_bytes(self, value: Any, scratch: Path) -> bytes:
        return value if isinstance(value, bytes) else value.content.tobytes()

    def ciphertext(self, content: bytes, scratch: Path) -> Any:
        return Slots(np.frombuffer(content, np.int64))

    def KeyGenerator(self, context: Any) -> Any:  # noqa: N802
        return self

    def secret_key(self) -> bytes:
        return SECRET

    def Encryptor(self, context: Any, key: Any) -> Any:  # noqa: N802
        return self

    Decryptor = Encryptor

    def Evaluator(self, context: Any) -> Any:  # noqa: N802
        return self

    def encode(self, numbers: list[int], plain: Any) -> None:
        plain.content = np.pad(np.array(numbers, np.int64) % self.modulus, (0, self.slots - len(numbers)))

    def encrypt_symmetric(self, plain: Any) -> Any:
        return plain

    def invariant_noise_budget(self, value: Any) -> int:
        return 1

    def decrypt(self, value: Any, plain: Any) -> None:
        plain.content = value.content

    def decode_int64(self, plain: Any) -> Any:
        half = self.modulus // 2
        return ((plain.content + half) % self.modulus - half).tolist()

    def multiply_plain(self, value: Any, factor: Any, product: Any) -> None:
        product.content = value.content * factor.content % self.modulus

    def add_inplace(self, total: Any, other: Any) -> None:
        total.content = (total.content + other.content) % self.modulus

    add_plain_inplace = add_inplace


class Slots:
    def __init__(self, content: Any = None) -> None:
        self.content = content

    def load(self, context: Any, path: str) -> None:
        assert Path(path).read_bytes() == SECRET


def _exchange(graph: IntGraph, codes: Any, folder: Path) -> Any:
    """Return the codes that a client has in the end."""
    client, server, exchanged = (folder / name for name in ("client", "server", "messages"))
    exchanged.mkdir()
    bfv.prepare(graph, client, server)
    bfv.make_keys(client)
    np.save(client / SAMPLES, codes)
    for _ in graph.ops:
        bfv.run_client(client, exchanged)
        bfv.run_server(server, exchanged)
    return read_npz(client / RESULT)["codes"]


NETS = {
    "dense": lambda: Net((6,), u(4)).dense(ints(6, 5), [1, -2, 3, 0, 9]).relu().requantize(u(3)).dense(ints(5, 3)),
    "conv": lambda: Net((5, 4, 2), s(3)).conv(ints(3, 3, 2, 3), padding="same").requantize(s(4)).pool((2, 2)),
    "nothing_weighted": lambda: Net((3,), u(2)).dense(ints(3, 2) * np.array([1, 0]), [0, 7]),
}


@pytest.mark.parametrize("name", NETS)
def test_client_and_server_give_the_codes_of_the_reference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bfv, "Seal", Open)
    graph = lower(NETS[name]().graph())
    low, high = graph.port_limits()
    codes = np.random.default_rng(3).integers(low, high + 1, (5, *graph.port_shape))
    assert np.array_equal(_exchange(graph, codes, tmp_path), reference.run_output(graph, codes))
    for path in (*(tmp_path / "server").rglob("*"), *(tmp_path / "messages").rglob("*")):
        assert path.is_dir() or SECRET not in path.read_bytes(), path
    assert (tmp_path / "client" / SECRET_KEY).stat().st_mode & 0o777 == 0o600


def test_a_client_has_no_weights(tmp_path: Path) -> None:
    bfv.prepare(lower(NETS["dense"]().graph()), tmp_path / "client", tmp_path / "server")
    blind = from_json(json.loads((tmp_path / "client" / bfv.GRAPH).read_text()))
    assert not any(op.weight.codes.any() or op.bias.codes.any() for op in blind if isinstance(op, bfv.ops.MatMul))
    with pytest.raises(UnsupportedError, match="recurrent"):
        bfv.prepare(lower(row("scan")), tmp_path / "client", tmp_path / "server")


@pytest.mark.skipif(find_spec("tenseal") is None, reason="TenSEAL is not installed (po2flow[encrypted])")
def test_with_seal(tmp_path: Path) -> None:
    """Ciphertexts of SEAL; those of another key have no noise budget left, and are refused."""
    graph = lower(NETS["dense"]().graph())
    codes = np.random.default_rng(4).integers(0, 16, (3, 6))
    assert np.array_equal(_exchange(graph, codes, tmp_path), reference.run_output(graph, codes))
    secret = (tmp_path / "client" / SECRET_KEY).read_bytes()[-4096:]
    served = [path for folder in ("server", "messages") for path in (tmp_path / folder).iterdir()]
    assert not any(secret[at : at + 64] in path.read_bytes() for path in served for at in range(0, 4096, 64))
    bfv.make_keys(tmp_path / "client")
    for path in (tmp_path / "client").glob("sums-*"):
        path.unlink()
    with pytest.raises(DataError, match="of another keys"):
        bfv.run_client(tmp_path / "client", tmp_path / "messages")
