"""What client and server exchange: files of a known version, of one model and one set of keys, whole or refused.

    po2flow encrypted 1\\n
    {"kind": ..., "scheme": ..., "model": ..., "keys": ..., "number": ..., "bytes": ..., "sha256": ...}\\n
    the payload, as the library wrote it

Whatever is read is held against its digest before a library sees it: what libraries make of damaged bytes is theirs. A
digest tells damage and mistakes, and not who wrote a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import DataError
from flow.files import writing
from flow.json_text import json_text

FIRST_LINE = b"po2flow encrypted 1\n"
LONGEST_HEADER = 1 << 16
SECRET, EVALUATION, REQUEST, REPLY = "secret key", "evaluation key", "request", "reply"
"""Kinds of files; the first never leaves the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A file between client and server.

    Attributes:
        kind: what it is.
        scheme: "tfhe" or "bfv".
        model: digest of the model's graph.
        keys: which keys it is made with, a name without meaning.
        number: of the sample, or of the round.
        payload: bytes of the library.
        facts: what else is said of it, JSON types.
    """

    kind: str
    scheme: str
    model: str
    keys: str
    number: int = 0
    payload: bytes = b""
    facts: Mapping[str, Any] | None = None


def write(path: Path, message: Message) -> None:
    """Write a message into a file that appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    header = {name: getattr(message, name) for name in ("kind", "scheme", "model", "keys", "number")}
    header |= {"facts": dict(message.facts or {}), "bytes": len(message.payload)}
    header["sha256"] = _digest(header, message.payload)
    with writing(path) as file:
        file.write(FIRST_LINE + json_text(header, indent=None).encode() + b"\n")
        file.write(message.payload)


def read(path: Path, *, kind: str, scheme: str, model: str, keys: str = "") -> Message:
    """Return the message in a file.

    Args:
        path: the file.
        kind, scheme, model: what it must be.
        keys: the keys it must be made with; any if empty.

    Raises:
        DataError: it is not there, damaged, cut short, of another version, or not what it must be.
    """
    try:
        with path.open("rb") as file:
            first, line = file.readline(len(FIRST_LINE)), file.readline(LONGEST_HEADER)
            payload = file.read() if first == FIRST_LINE else b""
    except OSError as error:
        raise DataError(f"no {kind} can be read ({error.strerror or error})", file=path) from error
    if first != FIRST_LINE:
        what = "is no message between a client and a server of this version"
        raise DataError(what, file=path, remedy="make both sides with the same version of 'flow encrypt'")
    try:
        header = json.loads(line)
        stated, size = header.pop("sha256"), header["bytes"]
        fields = {name: header[name] for name in ("kind", "scheme", "model", "keys", "number", "facts")}
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise DataError("its header is damaged", file=path, remedy="send it again") from error
    if len(payload) != size:
        what = f"has {len(payload)} bytes of {size}: it was cut short, or something was added"
        raise DataError(what, file=path, remedy="send it again")
    if stated != _digest(header, payload):
        raise DataError("is damaged: its digest is another", file=path, remedy="send it again")
    for name, wanted, remedy in (
        ("kind", kind, ""),
        ("scheme", scheme, ""),
        ("model", model, "use the client and the server that one 'flow encrypt' made"),
        ("keys", keys, "send the evaluation key of the client that asks, or ask with the keys that the server has"),
    ):
        if wanted and fields[name] != wanted:
            what = f"is of another {name} ('{str(fields[name])[:16]}', not '{wanted[:16]}')"
            raise DataError(what, file=path, remedy=remedy)
    return Message(**fields, payload=payload)


def _digest(header: Mapping[str, Any], payload: bytes) -> str:
    said = {name: value for name, value in header.items() if name != "sha256"}
    content = hashlib.sha256(json_text(said, indent=None, sort_keys=True).encode())
    content.update(payload)
    return content.hexdigest()
