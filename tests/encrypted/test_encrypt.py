"""`flow encrypt`: what is refused, and whole runs where the libraries are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from fixtures_cli import flow
from nets import Net, u

from flow.encrypted.messages import EVALUATION, SECRET, Message, read, write
from flow.encrypted.roles import EVALUATION_KEY, SECRET_KEY
from flow.errors import DataError, OutputError
from flow.ir.passes import lower
from flow.pipeline import encryption
from flow.pipeline.encryption import CONCRETE, to_text
from flow.progress import silent
from flow.toolchain import find_tool

needs_seal = pytest.mark.skipif(find_spec("tenseal") is None, reason="TenSEAL is not installed (po2flow[encrypted])")
needs_concrete = pytest.mark.skipif(find_tool(CONCRETE) is None, reason="FLOW_CONCRETE_PYTHON names no Python")


def test_what_cannot_run_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = str(tmp_path / "made")
    refused = flow("encrypt", "digits_mlp", "--to", to, "--scheme", "paillier")
    assert refused.code == 2 and "there is no scheme 'paillier'; use one of tfhe, bfv" in refused.err
    assert flow("encrypt", "digits_mlp", "--to", to, "--samples", "0").code == 2
    monkeypatch.setattr(encryption, "find_spec", lambda name: None)
    monkeypatch.setenv("FLOW_CONCRETE_PYTHON", str(tmp_path / "none"))
    for scheme, remedy in (
        ("bfv", "pip install 'po2flow[encrypted]'"),
        ("tfhe", "pip install concrete-python==2.11.0"),
    ):
        missing = flow("encrypt", "digits_mlp", "--to", to, "--scheme", scheme)
        assert missing.code == 3 and remedy in missing.err
    assert not Path(to).exists()


@pytest.mark.slow
@needs_seal
def test_a_client_aided_run_goes_on_and_refuses_what_was_changed(tmp_path: Path) -> None:
    to = tmp_path / "made"
    asked = ("encrypt", "digits_mlp", "--to", str(to), "--scheme", "bfv", "--samples")
    done = flow(*asked, "3")
    assert done.code == 0 and "digits_mlp under bfv: BIT EXACT; reference and he, 3 samples" in done.out
    key = (to / "client" / SECRET_KEY).read_bytes()
    assert flow(*asked, "4").code == 0
    assert (to / "client" / SECRET_KEY).read_bytes() == key
    (to / "client" / "result.npz").unlink()
    reply = to / "messages" / "reply-000001"
    reply.write_bytes(reply.read_bytes()[:-1])
    assert flow(*asked, "4").code == 2
    assert "holds a client of another model or scheme" in flow("encrypt", "fashion_cnn", *asked[2:], "4").err


@pytest.mark.slow
@needs_concrete
def test_a_server_under_tfhe_computes_the_codes_and_never_has_the_secret_key(tmp_path: Path) -> None:
    net = Net((3,), u(3)).dense(np.array([[4, -2], [1, 8], [-2, 4]]), [1, -3], frac=2).relu().requantize(u(3))
    graph = lower(net.dense(np.array([[1], [-2]])).graph())
    codes = np.array([[0, 0, 0], [7, 7, 7], [7, 0, 7], [2, 5, 1]])
    report = encryption._run(graph, codes, tmp_path, "tfhe", str(find_tool(CONCRETE)), silent)
    assert report["verdict"] == {
        "bit_exact": True,
        "samples": 4,
        "mismatches": 0,
        "compared": ["reference", "he"],
    }
    assert report["bootstraps"] == report["plan"]["bootstraps"], "the plan counts what the library does"
    assert 0 < report["failure_probability"] < 2**-30 and "BIT EXACT" in to_text(report)

    client, server = tmp_path / "client", tmp_path / "server"
    assert _has_secret(client / SECRET_KEY)
    for path in (*server.rglob("*"), *(tmp_path / "messages").iterdir()):
        assert path.is_dir() or not _has_secret(path), path
    facts = {"scheme": "tfhe", "model": graph.digest()}
    with pytest.raises(DataError, match="of another kind"):
        read(server / EVALUATION_KEY, kind=SECRET, **facts)
    other = read(server / EVALUATION_KEY, kind=EVALUATION, **facts)
    with pytest.raises(DataError, match="of another keys"):
        read(next((tmp_path / "messages").iterdir()), kind="request", **facts, keys="0" * len(other.keys))
    foreign = Message(kind="request", scheme="tfhe", model=graph.digest(), keys=other.keys, payload=b"numbers" * 99)
    write(tmp_path / "messages" / "request-000009", foreign)
    command = [str(find_tool(CONCRETE)), "-W", "ignore", "-m", "flow.encrypted.tfhe", "server", "."]
    refused = run([*command, "../messages"], cwd=server, env={}, capture_output=True, text=True, check=False)
    assert refused.returncode == 2, refused.stderr
    assert "request-000009: holds no numbers that are encrypted for this circuit" in refused.stderr
    with pytest.raises(OutputError, match="another model or scheme"):
        encryption._check_folder(tmp_path, graph, "bfv")


def _has_secret(path: Path) -> bool:
    """Say whether a file has 256 words of 64 bits in a row that are 0 or 1: a key of LWE as it is stored."""
    content = path.read_bytes()
    for start in range(8):
        words = np.frombuffer(content[start : start + (len(content) - start) // 8 * 8], np.uint64)
        ends = np.flatnonzero(np.concatenate([[True], words > 1, [True]]))
        for at in np.flatnonzero(np.diff(ends) > 256):
            if 64 < int(words[ends[at] : ends[at + 1] - 1].sum()) < ends[at + 1] - ends[at] - 64:
                return True
    return False
