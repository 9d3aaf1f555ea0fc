"""The report as one HTML file that needs nothing else: no network, no script, no font; `compare` puts runs together.

In: one `Report` or several. Out: the text of a page.
"""

from __future__ import annotations

from flow.report.page.comparison import compare
from flow.report.page.document import render

__all__ = ["compare", "render"]
