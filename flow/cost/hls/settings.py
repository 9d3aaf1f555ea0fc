"""What an HLS project is compiled with, beyond its target."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flow.backends.base import find_backend
from flow.errors import SpecError, shown
from flow.parts import Part
from flow.target import Target

VIVADO, VITIS = "Vivado HLS", "Vitis HLS"
VERSION = re.compile(r"(20\d\d\.\d)")
LAST_VIVADO_HLS = "2020.1"
MULTIPLIERS = ("auto", "dsp", "fabric")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hls:
    """Settings of an HLS project.

    Attributes:
        tool: `VIVADO` or `VITIS`.
        version: "2020.1", ...
        multipliers: of `MULTIPLIERS`; "auto" unless the project forces all of them (`config_op mul -impl`).
        clock_uncertainty_ns: what the tool sets aside of a clock period; None for what the target says.
        stock: whether hls4ml alone wrote it: FIFOs as deep as images, functions as tables of 1024 words in block RAM.
        saturating: ops whose accumulators round or clamp at every addition; never those of our projects.
        partitions: (op, how many positions of a convolution of arrays share hardware), where not all of them do.
    """

    tool: str = VITIS
    version: str = "2023.2"
    multipliers: str = "auto"
    clock_uncertainty_ns: float | None = None
    stock: bool = False
    saturating: frozenset[str] = frozenset()
    partitions: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.multipliers not in MULTIPLIERS:
            raise SpecError(f"multipliers {shown(self.multipliers)} are none of {', '.join(MULTIPLIERS)}")

    @property
    def vitis(self) -> bool:
        """Whether it is Vitis HLS."""
        return self.tool == VITIS

    @property
    def named(self) -> str:
        """Tool and version."""
        return f"{self.tool} {self.version}"


def assumed(target: Target) -> Hls:
    """Return the settings of our own projects."""
    tool, _, version = find_backend(target.backend).hls.rpartition(" ")
    return Hls(tool=tool, version=version)


def tool_of(text: str, usual: str) -> tuple[str, str]:
    """Return tool and version of a text that may leave open which tool it was; after 2020.1 there is only Vitis HLS.

    Args:
        text: "Vitis HLS 2023.1", "Vivado/Vitis HLS 2021.1", ...
        usual: tool and version of what the project was written for, as in `Backend.hls`.

    Example:
        >>> tool_of("Vivado/Vitis HLS 2021.1", "Vivado HLS 2020.1")
        ('Vitis HLS', '2021.1')
    """
    tool, _, version = usual.rpartition(" ")
    if found := VERSION.search(text):
        version = found.group(1)
    if version > LAST_VIVADO_HLS:
        return VITIS, version
    named = [each for each in (VIVADO, VITIS) if each in text]
    return (tool if "/" in text or not named else named[0]), version


def usable_ns(target: Target, hls: Hls) -> float:
    """Return the part of a clock period that the tool fills."""
    assert target.clock_uncertainty is not None
    aside = hls.clock_uncertainty_ns
    if aside is None or aside >= target.clock_period_ns:
        aside = target.clock_period_ns * target.clock_uncertainty
    return target.clock_period_ns - aside


def fast(part: Part) -> bool:
    """Say whether a part is of a family in which several adders fit into a clock period."""
    return part.family in ("UltraScale", "UltraScale+")
