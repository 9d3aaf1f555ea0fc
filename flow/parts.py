"""What common AMD/Xilinx and Lattice parts hold: LUTs, flip-flops, DSP slices, 18-kbit block RAMs and UltraRAMs.

The numbers of AMD's parts are those of the vendor's product tables: DS180 (7 series), DS190 (Zynq-7000), DS890
(UltraScale and UltraScale+), DS891 (Zynq UltraScale+ MPSoC), DS889 (Zynq UltraScale+ RFSoC), DS987 (Kria K26) and the
Alveo data sheets DS962 (U200, U250), DS963 (U280), DS965 (U50), DS978 (U55C). The tables count 36-kbit block RAMs; each
is two of 18 kbit. A slice has two flip-flops per LUT in all of these families (UG474, UG574), which a test holds this
table to.

Lattice's are those of FPGA-DS-02012 (ECP5), FPGA-DS-02029 (iCE40 LP/HX) and FPGA-DS-02008 (iCE40 UltraPlus), where
the data sheet rounds (ECP5: "24K", "44K", "84K" LUTs) those of nextpnr's device database. Their LUTs have four inputs.
The block RAMs of iCE40 hold 4 kbit: it has none of 18.

A device is the same silicon in every package and speed grade, so a part is looked up by the device it begins with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flow.errors import SpecError, shown
from flow.part_names import OF_AMD, device_of, elsewhere, parsed


@dataclass(frozen=True, slots=True)
class Part:
    """A device and its capacity.

    Attributes:
        name: device, the beginning of every full part number of it.
        family: "7-series" (Zynq-7000 too), "UltraScale" or "UltraScale+"; "ECP5", "iCE40 HX", "iCE40 LP" or
            "iCE40 UltraPlus".
        lut, ff, dsp, bram_18k, uram: counts; all 0 for a device that the table does not list.
    """

    name: str
    family: str
    lut: int
    ff: int
    dsp: int
    bram_18k: int
    uram: int

    def capacity(self) -> dict[str, int]:
        """Return the counts under the names that a ResourceReport uses; nothing if they are not known."""
        if not self.lut:
            return {}
        return {"lut": self.lut, "ff": self.ff, "dsp": self.dsp, "bram_18k": self.bram_18k, "uram": self.uram}


PARTS: tuple[Part, ...] = (
    # Zynq-7000, DS190
    Part("xc7z010", "7-series", 17_600, 35_200, 80, 120, 0),
    Part("xc7z020", "7-series", 53_200, 106_400, 220, 280, 0),  # Pynq-Z1 and Z2 (xc7z020clg400-1), ZedBoard
    Part("xc7z030", "7-series", 78_600, 157_200, 400, 530, 0),
    Part("xc7z045", "7-series", 218_600, 437_200, 900, 1_090, 0),  # ZC706
    Part("xc7z100", "7-series", 277_400, 554_800, 2_020, 1_510, 0),
    # Artix-7, Kintex-7, Virtex-7: DS180
    Part("xc7a35t", "7-series", 20_800, 41_600, 90, 100, 0),  # Arty A7-35, Basys 3
    Part("xc7a50t", "7-series", 32_600, 65_200, 120, 150, 0),
    Part("xc7a100t", "7-series", 63_400, 126_800, 240, 270, 0),  # Arty A7-100, Nexys A7
    Part("xc7a200t", "7-series", 134_600, 269_200, 740, 730, 0),  # Nexys Video, AC701
    Part("xc7k70t", "7-series", 41_000, 82_000, 240, 270, 0),
    Part("xc7k160t", "7-series", 101_400, 202_800, 600, 650, 0),
    Part("xc7k325t", "7-series", 203_800, 407_600, 840, 890, 0),  # KC705
    Part("xc7k410t", "7-series", 254_200, 508_400, 1_540, 1_590, 0),
    Part("xc7vx485t", "7-series", 303_600, 607_200, 2_800, 2_060, 0),  # VC707
    Part("xc7vx690t", "7-series", 433_200, 866_400, 3_600, 2_940, 0),  # VC709
    # Kintex UltraScale, DS890
    Part("xcku040", "UltraScale", 242_400, 484_800, 1_920, 1_200, 0),  # KCU105
    Part("xcku060", "UltraScale", 331_680, 663_360, 2_760, 2_160, 0),
    Part("xcku115", "UltraScale", 663_360, 1_326_720, 5_520, 4_320, 0),
    # Kintex and Virtex UltraScale+, DS890
    Part("xcku3p", "UltraScale+", 162_720, 325_440, 1_368, 720, 48),
    Part("xcku5p", "UltraScale+", 216_960, 433_920, 1_824, 960, 64),
    Part("xcku15p", "UltraScale+", 522_720, 1_045_440, 1_968, 1_968, 128),
    Part("xcvu9p", "UltraScale+", 1_182_240, 2_364_480, 6_840, 4_320, 960),  # VCU118
    Part("xcvu13p", "UltraScale+", 1_728_000, 3_456_000, 12_288, 5_376, 1_280),
    Part("xcvu37p", "UltraScale+", 1_303_680, 2_607_360, 9_024, 4_032, 960),
    # Zynq UltraScale+ MPSoC, DS891; Kria K26, DS987; RFSoC, DS889
    Part("xczu3eg", "UltraScale+", 70_560, 141_120, 360, 432, 0),  # Ultra96-V2
    Part("xczu5ev", "UltraScale+", 117_120, 234_240, 1_248, 288, 64),
    Part("xczu7ev", "UltraScale+", 230_400, 460_800, 1_728, 624, 96),  # ZCU104
    Part("xczu9eg", "UltraScale+", 274_080, 548_160, 2_520, 1_824, 0),  # ZCU102
    Part("xck26", "UltraScale+", 117_120, 234_240, 1_248, 288, 64),  # KV260
    Part("xczu28dr", "UltraScale+", 425_280, 850_560, 4_272, 2_160, 80),  # ZCU111
    Part("xczu48dr", "UltraScale+", 425_280, 850_560, 4_272, 2_160, 80),  # RFSoC 4x2
    Part("xczu49dr", "UltraScale+", 425_280, 850_560, 4_272, 2_160, 80),
    # Alveo: DS962, DS963, DS965, DS978
    Part("xcu50", "UltraScale+", 871_680, 1_743_360, 5_952, 2_688, 640),
    Part("xcu55c", "UltraScale+", 1_303_680, 2_607_360, 9_024, 4_032, 960),
    Part("xcu200", "UltraScale+", 1_182_240, 2_364_480, 6_840, 4_320, 960),
    Part("xcu250", "UltraScale+", 1_728_000, 3_456_000, 12_288, 5_376, 1_280),
    Part("xcu280", "UltraScale+", 1_303_680, 2_607_360, 9_024, 4_032, 960),
)

LATTICE_PARTS: tuple[Part, ...] = (
    *(
        Part(f"{series}-{size}", "ECP5", lut, lut, dsp, bram, 0)
        for size, lut, dsp, bram in (("25F", 24_288, 28, 56), ("45F", 43_848, 72, 108), ("85F", 83_640, 156, 208))
        for series in ("LFE5U", "LFE5UM", "LFE5UM5G")  # the same logic with and without serial transceivers
    ),
    Part("iCE40HX1K", "iCE40 HX", 1_280, 1_280, 0, 0, 0),  # iCEstick
    Part("iCE40HX4K", "iCE40 HX", 3_520, 3_520, 0, 0, 0),
    Part("iCE40HX8K", "iCE40 HX", 7_680, 7_680, 0, 0, 0),  # iCE40-HX8K breakout board
    Part("iCE40LP1K", "iCE40 LP", 1_280, 1_280, 0, 0, 0),
    Part("iCE40LP8K", "iCE40 LP", 7_680, 7_680, 0, 0, 0),  # TinyFPGA BX
    Part("iCE40UP5K", "iCE40 UltraPlus", 5_280, 5_280, 8, 0, 0),  # iCEBreaker, UPduino
)

PACKAGES: Mapping[str, str] = {
    "xc7z010": "clg225 clg400",
    "xc7z020": "clg400 clg484",
    "xc7z030": "fbg484 sbg485 fbg676 ffg676",
    "xc7z045": "fbg676 ffg676 ffg900",
    "xc7z100": "ffg900 ffg1156",
    "xc7a35t": "cpg236 csg324 csg325 ftg256 fgg484",
    "xc7a50t": "cpg236 csg324 csg325 ftg256 fgg484",
    "xc7a100t": "csg324 ftg256 fgg484 fgg676",
    "xc7a200t": "sbg484 fbg484 fbg676 ffg1156",
    "xc7k70t": "fbg484 fbg676",
    "xc7k160t": "fbg484 fbg676 ffg676",
    "xc7k325t": "fbg676 ffg676 fbg900 ffg900",
    "xc7k410t": "fbg676 ffg676 fbg900 ffg900",
    "xc7vx485t": "ffg1157 ffg1158 ffg1761 ffg1927 ffg1930",
    "xc7vx690t": "ffg1157 ffg1158 ffg1761 ffg1926 ffg1927 ffg1930",
    "xcku040": "ffva1156 fbva676 sfva784",
    "xcku060": "ffva1156 ffva1517",
    "xcku115": "flvb2104 flva1517 flvd1517 flvb1760 flvd1924 flvf1924 flva2104",
    "xcku3p": "ffvb676 ffva676 sfvb784 ffvd900",
    "xcku5p": "ffvb676 ffva676 sfvb784 ffvd900",
    "xcku15p": "ffve1517 ffva1156 ffva1760 ffve1760",
    "xcvu9p": "flga2104 flgb2104 flgc2104 flga2577 fsgd2104",
    "xcvu13p": "flga2577 fhga2104 fhgb2104 fhgc2104 figd2104 fsga2577",
    "xcvu37p": "fsvh2892",
    "xczu3eg": "sbva484 sfva625 sfvc784",
    "xczu5ev": "sfvc784 fbvb900",
    "xczu7ev": "ffvc1156 fbvb900 ffvf1517",
    "xczu9eg": "ffvb1156 ffvc900",
    "xck26": "sfvc784",
    "xczu28dr": "ffvg1517 ffve1156 fsvg1517 fsve1156",
    "xczu48dr": "ffvg1517 ffve1156 fsvg1517 fsve1156",
    "xczu49dr": "ffvf1760 fsvf1760",
    "xcu50": "fsvh2104",
    "xcu55c": "fsvh2892",
    "xcu200": "fsgd2104",
    "xcu250": "figd2104",
    "xcu280": "fsvh2892",
}
"""Packages to propose, from the same tables; others are legal too."""
GRADES = {
    "7-series": ("-1", "-2", "-3"),
    "UltraScale": ("-2-e", "-2-i"),
    "UltraScale+": ("-2-e", "-2-i", "-1-e", "-3-e"),
}
OWN_GRADES = {"xck26": ("-2LV-c", "-2LVI-i"), **dict.fromkeys(("xcu55c", "xcu250", "xcu280"), ("-2L-e",))}
"""Speed and temperature grades to propose: of a family, and of devices that have others."""


LATTICE_PACKAGE = re.compile(r"(-(?P<speed>[6-8])?(?P<package>[a-z]{2,4}\d{1,3})[a-z]*)?")
"""What may follow a device of Lattice: nothing, or a package; ECP5 has the speed grade before it."""


def complete_part(text: str) -> str:
    """Return a complete part number of AMD: device, package, speed grade and, but for 7 series, temperature grade.

    A device that the table does not list is taken if its name is made like one.

    Raises:
        SpecError: something is missing or misspelled; it says what, and the nearest complete names.

    Example:
        >>> complete_part("XC7Z020CLG400-1")
        'xc7z020clg400-1'
    """
    naming, spelled, wrong = parsed("".join(text.lower().split()))
    if naming is not None and not wrong:
        return spelled
    near = " or ".join(nearest_names(text))
    hint = "" if naming is not None else elsewhere(text, *OF_AMD[:3])
    remedy = f"use a complete name, like {near}{hint}; docs/estimates.md lists devices"
    raise SpecError(f"part {shown(text)} {wrong}", remedy=remedy)


def nearest_names(text: str) -> list[str]:
    """Return the three complete names of listed devices that are nearest to a text, the nearest first."""
    spelled = text.strip().lower()[:40]
    devices = [part for part in PARTS if spelled.startswith(part.name)]
    if devices:
        names = complete_names(max(devices, key=lambda part: len(part.name)))
        return difflib.get_close_matches(spelled, names, n=3, cutoff=0.0)
    names = [name for part in PARTS for name in complete_names(part)]
    usual = ["xc7z020clg400-1", "xczu9eg-ffvb1156-2-e", "xcvu13p-flga2577-2-e"]
    return difflib.get_close_matches(spelled, names, n=3) or usual


def complete_names(part: Part) -> list[str]:
    """Return complete names of a listed device, a usual one first."""
    dash = "" if part.family == "7-series" else "-"
    grades = OWN_GRADES.get(part.name, GRADES[part.family])
    return [f"{part.name}{dash}{package}{grade}" for grade in grades for package in PACKAGES[part.name].split()]


def find_part(text: str) -> Part:
    """Return the device that a part number begins with.

    Args:
        text: a part number in any usual spelling: `xc7z020clg400-1`, `xc7z020-clg400-1`, `xcvu13p-flga2577-2-e`,
            `7z020clg400-1` (Vivado's reports leave the `xc` off), upper or lower case, or the device alone.

    Raises:
        SpecError: no device; the message lists the nearest names.

    Example:
        >>> find_part("xc7z020clg400-1").dsp
        220
    """
    wanted = "".join(text.lower().split())
    found = device_of(wanted) or device_of(f"xc{wanted}")
    if found is None:
        near = " or ".join(nearest_names(wanted if wanted.startswith("x") else f"xc{wanted}"))
        raise SpecError(f"part {shown(text)} is not known", remedy=f"the nearest are {near}{elsewhere(text, 'rtl')}")
    naming, device = found
    listed = (part for part in PARTS if part.name == device)
    return next(listed, Part(device, naming.family, 0, 0, 0, 0, 0))


def find_device(text: str) -> Part:
    """Return the device that a part number of AMD or Lattice begins with.

    Args:
        text: as for `find_part`, or Lattice's: `LFE5U-45F-6BG381C`, `iCE40UP5K-SG48I`, or the device alone.

    Raises:
        SpecError: no known device.

    Example:
        >>> find_device("LFE5U-45F-6BG381C").dsp
        72
    """
    wanted = "".join(text.lower().split())
    for part in LATTICE_PARTS:
        if wanted.startswith(part.name.lower()) and LATTICE_PACKAGE.fullmatch(wanted[len(part.name) :]):
            return part
    try:
        return find_part(text)
    except SpecError as error:
        names = difflib.get_close_matches(wanted[:40], [part.name.lower() for part in LATTICE_PARTS], n=3, cutoff=0.0)
        near = [part.name for part in LATTICE_PARTS if part.name.lower() in names]
        raise SpecError(error.what, remedy=f"{error.remedy}; of Lattice {' or '.join(near)}") from error
