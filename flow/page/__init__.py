"""The report as one HTML file that needs nothing else: no network, no script, no font; `compare` puts runs together."""

from __future__ import annotations

from flow.page.comparison import compare
from flow.page.document import render

__all__ = ["compare", "render"]
