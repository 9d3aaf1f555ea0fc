"""Read what the vendor's tools report: C synthesis (Vivado HLS, Vitis HLS), Vivado and Quartus Prime.

In: files that a tool wrote. Out: a `ResourceReport` per tool.

A number the tool does not know (`-`, `?`, `undef`, `NA`) is None; a table, column or element that is not where it
should be is an error that names file and line, never a zero.
"""
