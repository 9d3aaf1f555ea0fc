"""What the sides of every scheme share: their folders, and how a role is run as a program."""

from __future__ import annotations

import json
import resource
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flow.errors import FlowError, InputError, SpecError, shown
from flow.files import writing
from flow.json_text import json_text

ABOUT, SECRET_KEY, EVALUATION_KEY = "about.json", "secret.key", "evaluation.key"
SAMPLES, RESULT = "samples.npy", "result.npz"
"""Files of a folder: whose side it is; keys; of the client, input codes and the codes that came of them."""

BUG = 4
"""Exit code of what is none of our errors."""


def about_of(folder: Path) -> dict[str, Any]:
    """Return what the folder of a side says of itself.

    Raises:
        InputError: it is none.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
        if not isinstance(about["model"], str):
            raise ValueError("'model' is no digest")
    except (OSError, ValueError, LookupError, TypeError) as error:
        what = f"is no folder of a client or a server ({ABOUT}: {error})"
        raise InputError(what, file=folder, remedy="'flow encrypt' makes them") from error
    return about


def write_json(path: Path, data: Any) -> None:
    """Write JSON types into a file that appears whole or not at all."""
    with writing(path) as file:
        file.write(json_text(data, indent=None).encode())


def reply_to(request: Path) -> Path:
    """Return the file of the reply to a request."""
    return request.with_name(request.name.replace("request", "reply"))


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_role(roles: Mapping[str, Callable[..., None]], arguments: Sequence[str]) -> int:
    """Run a role in its folder, `ROLE FOLDER [MESSAGES]`, and return the exit code."""
    try:
        if not arguments or arguments[0] not in roles:
            raise SpecError(
                f"a role is one of {', '.join(roles)}", remedy="give ROLE FOLDER, and MESSAGES to the sides"
            )
        roles[arguments[0]](*(Path(each) for each in arguments[1:]))
    except FlowError as error:
        print(f"flow: error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:  # a bug, or of a library: 1 would say that outputs differ
        traceback.print_exc()
        print(f"flow: error: this is a bug in flow ({type(error).__name__}: {shown(error)})", file=sys.stderr)
        return BUG
    return 0
