"""Yosys as a tool: scripts run in processes of their own, and the cells of each family counted as resources.

In: commands and the cells of a design. Out: files that Yosys wrote, and counts of LUTs, registers, memories and DSPs.
"""
