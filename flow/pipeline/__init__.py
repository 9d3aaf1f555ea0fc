"""The driver: from a model to a verified project and its report, stage by stage, resumable.

In: a model, a target and options. Out: a `Report`, and a run directory that holds all that was made. `stages` is the
list of what a build does; `plan` runs such a list; `driver` is what users call.
"""

from flow.pipeline.driver import (
    build,
    check,
    compare_run,
    keep_figures,
    load_graph,
    load_report,
    quantize,
    write_comparison,
    write_page,
)
from flow.pipeline.handover import bitstream, export
from flow.pipeline.options import UNTIL, BuildOptions, QuantizeOptions

__all__ = [
    "UNTIL",
    "BuildOptions",
    "QuantizeOptions",
    "bitstream",
    "build",
    "check",
    "compare_run",
    "export",
    "keep_figures",
    "load_graph",
    "load_report",
    "quantize",
    "write_comparison",
    "write_page",
]
