"""Change generated files by hand, to see that the change is found."""

from __future__ import annotations

import re
from collections.abc import Callable

from flow.project import Project


def edit(project: Project, path: str, pattern: str, change: str | Callable[[re.Match[str]], str]) -> Project:
    """Replace the one place in a file where a pattern stands."""
    text, count = re.subn(pattern, change, project.text(path))
    assert count == 1, f"{pattern!r} stands {count} times in {path}"
    return Project(project.name, {**project.files, path: text.encode()})
