"""Read what the vendor's tools report: C synthesis (Vivado HLS, Vitis HLS), Vivado and Quartus Prime.

In: files that a tool wrote. Out: a `ResourceReport` per tool.

A number the tool does not know (`-`, `?`, `undef`, `NA`) is None; a table, column or element that is not where it
should be is an error that names file and line, never a zero.
"""

from flow.cost.vendor_reports.csynth import read_csynth
from flow.cost.vendor_reports.kinds import find_reports, read_reports
from flow.cost.vendor_reports.quartus import read_quartus_fit
from flow.cost.vendor_reports.vivado import (
    read_vivado,
    read_vivado_hierarchy,
    read_vivado_timing,
    read_vivado_utilization,
)

__all__ = [
    "find_reports",
    "read_csynth",
    "read_quartus_fit",
    "read_reports",
    "read_vivado",
    "read_vivado_hierarchy",
    "read_vivado_timing",
    "read_vivado_utilization",
]
