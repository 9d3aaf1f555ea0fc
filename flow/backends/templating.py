"""Files that are text with a few words to fill in: `templates/NAME.in` of a room, where `@WORD@` stands for one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources


def filled(room: str, name: str, words: Mapping[str, object]) -> str:
    """Return the template of a file with every `@WORD@` replaced.

    Args:
        room: the package whose template it is, as "flow.backends.hls4ml".
        name: the file's.
        words: what stands for each word; a template may not have others.
    """
    text = (resources.files(room) / "templates" / f"{name}.in").read_text()
    return re.sub(r"@([A-Z_]+)@", lambda match: str(words[match[1]]), text)
