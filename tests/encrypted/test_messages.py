"""Files between client and server: of a known version, of one model and one set of keys, whole or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flow.encrypted import messages
from flow.encrypted.messages import REPLY, REQUEST, Message
from flow.encrypted.roles import about_of, run_role
from flow.errors import DataError, InputError

REQUESTED = Message(kind=REQUEST, scheme="tfhe", model="m" * 64, keys="k" * 32, number=3, payload=b"numbers" * 9)
EXPECTED = {"kind": REQUEST, "scheme": "tfhe", "model": "m" * 64}


def test_a_message_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "request"
    messages.write(path, REQUESTED)
    read = messages.read(path, **EXPECTED, keys="k" * 32)
    assert (read.payload, read.number, read.keys) == (REQUESTED.payload, 3, "k" * 32)


@pytest.mark.parametrize(
    ("change", "said"),
    (
        (lambda content: content[:-1], "62 bytes of 63: it was cut short"),
        (lambda content: content + b"\0", "64 bytes of 63"),
        (lambda content: content[:-1] + b"!", "its digest is another"),
        (lambda content: content.replace(b'"number": 3', b'"number": 4'), "its digest is another"),
        (lambda content: content.replace(b"encrypted 1", b"encrypted 2"), "no message between a client and a server"),
        (lambda content: b"", "no message between a client and a server"),
        (lambda content: content.replace(b'{"kind"', b'["kind"'), "its header is damaged"),
    ),
)
def test_a_damaged_message_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], said: str) -> None:
    path = tmp_path / "request"
    messages.write(path, REQUESTED)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=said):
        messages.read(path, **EXPECTED)


@pytest.mark.parametrize(
    ("wanted", "said"),
    (
        ({"keys": "other"}, "of another keys .*; send the evaluation key of the client that asks"),
        ({"model": "other"}, "of another model"),
        ({"scheme": "bfv"}, "of another scheme"),
        ({"kind": REPLY}, r"of another kind \('request', not 'reply'\)"),
    ),
)
def test_a_message_of_others_is_refused(tmp_path: Path, wanted: dict[str, str], said: str) -> None:
    path = tmp_path / "request"
    messages.write(path, REQUESTED)
    with pytest.raises(DataError, match=said):
        messages.read(path, **{**EXPECTED, **wanted})
    with pytest.raises(DataError, match="No such file"):
        messages.read(tmp_path / "other", **EXPECTED)


def test_a_role_ends_with_the_exit_code_of_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_role({"server": about_of}, ["server", str(tmp_path)]) == 2
    assert "is no folder of a client or a server" in capsys.readouterr().err
    assert run_role({"server": about_of}, ["sever"]) == 2
    assert run_role({"server": lambda folder: 1 // 0}, ["server", "x"]) == 4, "1 would say that outputs differ"
    (tmp_path / "about.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match="'model' is no digest"):
        about_of(tmp_path)
