"""Which kind of report a file is, and where a project keeps its reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flow.cost.vendor_reports.csynth import TITLE, read_csynth
from flow.cost.vendor_reports.quartus import SUMMARY, read_quartus_fit
from flow.cost.vendor_reports.text import ReportText
from flow.cost.vendor_reports.vivado import HIERARCHY, TIMING, read_vivado
from flow.errors import ToolFailedError
from flow.results import ResourceReport

VIVADO = ("utilization.rpt", "hierarchy.rpt", "timing.rpt")
"""What `flow.backends.vivado` asks Vivado to write."""
MARKS = {
    "csynth": rf"{TITLE}|^<profile>",
    "hierarchy": rf"^{re.escape(HIERARCHY)}",
    "utilization": r"^Utilization Design Information",
    "timing": rf"^{re.escape(TIMING)}",
    "quartus": rf"^Fitter Status : |^; {SUMMARY} ",
}
"""Kind of report -> a line that only it has."""


def read_reports(paths: Sequence[Path]) -> tuple[ResourceReport, ...]:
    """Return an entry for each tool that wrote some reports of one design.

    The text of a report says of which kind it is. Vivado's hierarchy and timing go into the entry of its utilization.

    Raises:
        ToolFailedError: a file is none of those, two are of one kind, or Vivado's utilization is missing.
    """
    kinds: dict[str, Path] = {}
    for path in paths:
        report = ReportText.read(path)
        kind = next((kind for kind, mark in MARKS.items() if re.search(mark, report.text, re.MULTILINE)), None)
        if kind is None:
            raise report.layout(
                1, "a csynth report, Vivado's utilization, hierarchy or timing, or Quartus' fitter report"
            )
        if kind in kinds:
            raise ToolFailedError(f"{kinds[kind]} is a {kind} report too", file=path, remedy="give one of them")
        kinds[kind] = path
    entries = [read_csynth(kinds["csynth"])] if "csynth" in kinds else []
    if "utilization" in kinds:
        entries.append(read_vivado(kinds["utilization"], kinds.get("hierarchy"), kinds.get("timing")))
    else:
        for kind in [kind for kind in ("hierarchy", "timing") if kind in kinds]:
            raise ToolFailedError(f"{kinds[kind]}: give the text of report_utilization with this {kind} report")
    if "quartus" in kinds:
        entries.append(read_quartus_fit(kinds["quartus"]))
    return tuple(entries)


def find_reports(project_dir: Path) -> tuple[ResourceReport, ...]:
    """Return every report that a project or a directory of `flow.backends.vivado` holds, csynth first.

    The places are those of hls4ml's Tcl (`<top>_prj/<solution>/syn/report/<top>_csynth.rpt`, or `.xml` only where the
    text is absent, because it has no layers; `vivado_synth.rpt`), our own (`VIVADO`), and that of Intel's HLS compiler
    and Quartus (`**/<revision>.fit.rpt`, or `.fit.summary` where it is absent). Reports of submodules are left alone.

    Raises:
        ToolFailedError: a report is there and cannot be understood, or there are two of one kind.
    """
    files: list[Path] = []
    for folder in sorted(project_dir.glob("*_prj/*/syn/report")):
        top = folder.parents[2].name.removesuffix("_prj")
        choices = [folder / f"{top}_csynth{suffix}" for suffix in (".rpt", ".xml")]
        files += [path for path in choices if path.is_file()][:1]
    own, synthesis = project_dir / VIVADO[0], project_dir / "vivado_synth.rpt"
    files += [path for name in VIVADO if (path := project_dir / name).is_file()] if own.is_file() else []
    files += [synthesis] if synthesis.is_file() and not own.is_file() else []
    files += sorted(project_dir.rglob("*.fit.rpt")) or sorted(project_dir.rglob("*.fit.summary"))
    return read_reports(files)
