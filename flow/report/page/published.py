"""Nets that others published, with their sources: what a search is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KANELE = "Vivado after place and route, as collected by KANELE (FPGA'26)"


@dataclass(frozen=True, slots=True)
class Net:
    """A published net: accuracy on the whole test split, as a fraction, and LUTs after place and route."""

    name: str
    accuracy: float
    luts: int
    source: str


PUBLISHED: Mapping[str, tuple[Net, ...]] = {
    "mnist": (
        Net("DWN", 0.978, 2_092, f"Bacellar et al., ICML 2024, arXiv 2410.11112; {KANELE}"),
        Net("TreeLUT", 0.966, 4_478, KANELE),
        Net("NeuraLUT-Assemble", 0.979, 5_070, f"Andronic and Constantinides 2025, arXiv 2504.00592; {KANELE}"),
        Net("NeuraLUT", 0.960, 54_798, KANELE),
        Net("PolyLUT", 0.975, 75_131, KANELE),
        Net("FINN", 0.960, 91_131, KANELE),
    )
}
"""Data set -> nets, the smallest first."""
