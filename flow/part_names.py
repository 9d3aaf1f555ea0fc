"""Part numbers as their vendors write them: what a complete one is made of, and what is wrong with another.

AMD's are those that Vivado lists (`get_parts`), by the overviews of its families: DS180 and DS190 (7 series), DS890
(UltraScale, UltraScale+), DS950 (Versal). Intel's are the families and ordering codes that `i++ -march` and `icpx
-Xstarget` take, Microchip's the devices of SmartHLS' `set_project`. Lattice's are in `flow.parts`. Blanks and case tell
no two parts apart.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from flow.errors import SpecError, shown


@dataclass(frozen=True, slots=True)
class Naming:
    """How complete part numbers of a family are made: a device, and in order what must follow.

    Attributes:
        family: as in `flow.parts`.
        device: pattern of devices.
        pieces: (name, pattern, example); one without an example may be missing.
    """

    family: str
    device: str
    pieces: tuple[tuple[str, str, str], ...]


_PACKAGE = "-[a-z]{4}[0-9]{3,4}"
_TEMPERATURE = ("temperature grade", "-[ceimq]", "-e")
_END = ("end", "(-es[0-9])?", "")
_CIV = "(_civ)?"
"""Some devices come in a variant of this name, as in `xcvu35p_CIV-fsvh2104-2-e`."""
_ULTRASCALE = (("speed grade", "-[123][a-z]{0,3}", "-2"), _TEMPERATURE, _END)
NAMINGS = (
    Naming(
        "7-series",
        "x[acq]7(z(007s|012s|014s|[0-9]{3})|[ask][0-9]{1,3}t?|v[0-9]{3,4}t|v[xh][0-9]{3,4}t)",
        (
            ("package", "i?[a-z]{3,4}[0-9]{3,4}", "clg400"),
            ("speed grade", "-[123][lgh]?[ceiqm]?", "-1"),
        ),
    ),
    Naming(
        "UltraScale",
        f"x[cq](ku|vu)[0-9]{{3}}{_CIV}",
        (("package", _PACKAGE, "-ffva1156"), *_ULTRASCALE),
    ),
    Naming(
        "UltraScale+",
        f"x[acq]((ku|vu|au|su)[0-9]{{1,3}}p{_CIV}|zu[0-9]{{1,2}}[a-z]{{2,3}}|k[0-9]{{2}}|ux?[0-9]{{2,3}}[a-z]?)",
        (("package", _PACKAGE, "-ffvb676"), *_ULTRASCALE),
    ),
    Naming(
        "Versal",
        "x[acq](v[cehmpr][0-9]{4}|2v[emp][0-9]{4}|v80)",
        (
            ("package", _PACKAGE, "-vsva2197"),
            ("speed grade", "-[123][a-z]{2,4}", "-2MP"),
            _TEMPERATURE,
            ("static power grade", "(-[slh])?", ""),
            _END,
        ),
    ),
)
"""AMD's, as `get_parts` of Vivado lists them: 7 series in one word and a grade, the others in words with dashes."""
UPPER = ("speed grade", "static power grade")
INTEL_FAMILIES = (
    *("Arria10", "ArriaV", "ArriaVGZ", "Cyclone10GX", "CycloneV", "MAX10", "Stratix10", "StratixV"),
    *("Agilex", "Agilex3", "Agilex5", "Agilex7"),
)
INTEL = re.compile(f"{'|'.join(INTEL_FAMILIES)}|(10[ACM]|1S|5[ACS]|A[35]|AG)[A-Z0-9]{{6,}}", re.IGNORECASE)
"""Families of Quartus and oneAPI, or an ordering code of one."""
MICROCHIP = re.compile("MPF(050|100|200|300|500)(T|TS|TL|TLS)?", re.IGNORECASE)
"""Devices of PolarFire."""
LATTICE = re.compile("(LFE5UM?(5G)?-|iCE40(HX|LP|UP))[A-Z0-9-]+", re.IGNORECASE)
"""Names that are made like those of Lattice."""
OF_AMD, OF_INTEL, OF_MICROCHIP = ("Vitis", "Vivado", "Catapult", "rtl"), ("Quartus", "oneAPI"), ("Libero",)
OF_LATTICE = ("rtl",)
LOOKS = {
    OF_INTEL: re.compile(f"{'|'.join(INTEL_FAMILIES)}|(10[ACM]|1S|5[ACS]|A[35]|AG)[A-Z]", re.IGNORECASE),
    OF_MICROCHIP: re.compile("MPF", re.IGNORECASE),
    OF_LATTICE: re.compile("LFE5|iCE40", re.IGNORECASE),
    OF_AMD: re.compile("x[acq][0-9a-z]", re.IGNORECASE),
}
"""Back ends that take the parts of a vendor -> how these begin."""


def parsed(text: str) -> tuple[Naming | None, str, str]:
    """Return of a part number in lower case how it is named, its canonical text, and what is wrong with it."""
    for naming in NAMINGS:
        device = re.match(naming.device, text)
        if device is None:
            continue
        canonical, place = device[0].replace("_civ", "_CIV"), device.end()
        for position, (name, pattern, example) in enumerate(naming.pieces):
            piece = re.compile(pattern).match(text, place)
            if piece is None and place == len(text):
                missing = [name for name, _, like in naming.pieces[position:] if like]
                return naming, canonical, f"has no {' and no '.join(missing)}"
            if piece is None:
                return naming, canonical, f"has {shown(text[place:])} where a {name} like {example!r} belongs"
            canonical += piece[0].upper() if name in UPPER else piece[0]
            place = piece.end()
        rest = text[place:]
        return naming, canonical, f"has {shown(rest)} behind its last grade" if rest else ""
    return None, text, "is none of AMD's"


def device_of(text: str) -> tuple[Naming, str] | None:
    """Return how a part number in lower case is named and the device that it begins with; None if it begins with none.

    What follows the device is nothing, or a package, with a dash before it or not, and whatever stands behind.
    """
    for naming in NAMINGS:
        package = naming.pieces[0][1].removeprefix("-")
        if found := re.fullmatch(f"(?P<device>{naming.device})(-?{package}(-.+)?)?", text):
            return naming, found["device"]
    return None


def canonical(text: str) -> str:
    """Return a part number as its vendor writes it; what is none stays as it is, but for blanks.

    Example:
        >>> canonical(" XCK26-SFVC784-2lv-C "), canonical("ice40up5k-sg48i"), canonical("cyclone v")
        ('xck26-sfvc784-2LV-c', 'iCE40UP5K-SG48I', 'CycloneV')
    """
    joined = "".join(text.split())
    naming, spelled, wrong = parsed(joined.lower())
    if naming is not None and not wrong:
        return spelled
    named = {family.lower(): family for family in INTEL_FAMILIES}
    if joined.lower() in named:
        return named[joined.lower()]
    is_other = any(vendor.fullmatch(joined) for vendor in (INTEL, MICROCHIP, LATTICE))
    return joined.upper().replace("ICE40", "iCE40") if is_other else joined


def elsewhere(text: str, *own: str) -> str:
    """Return, as more of a remedy, which back ends take a part that looks like another vendor's; nothing if none."""
    for back_ends, looks in LOOKS.items():
        if not set(own) & set(back_ends) and looks.match(text):
            return f"; one like {shown(text)} goes with --backend {' or '.join(back_ends)}"
    return ""


def is_same_part(one: str, other: str) -> bool:
    """Say whether two names are of one part: Vivado's reports leave out `xc` and dashes, and some the end of a name.

    Example:
        >>> is_same_part("7z020clg400-1", "XC7Z020CLG400-1"), is_same_part("7z020clg400-1", "xc7z020clg400-2")
        (True, False)
    """
    first, second = (name.lower().removeprefix("xc").replace("-", "") for name in (one, other))
    return first.startswith(second) or second.startswith(first)


def check_intel(text: str) -> None:
    """Hold a part against what Intel's compilers take: a family, or an ordering code.

    Raises:
        SpecError: it is neither.
    """
    if not INTEL.fullmatch(text):
        families = ", ".join(difflib.get_close_matches(text[:40], INTEL_FAMILIES, n=3, cutoff=0.0))
        remedy = f"use a family like {families}, or an ordering code{elsewhere(text, *OF_INTEL)}"
        raise SpecError(f"part {shown(text)} is none of Intel's", remedy=remedy)


def check_microchip(text: str) -> None:
    """Hold a part against the devices of PolarFire.

    Raises:
        SpecError: it is none.
    """
    if not MICROCHIP.fullmatch(text):
        remedy = f"use MPF100, MPF200, MPF300 or MPF500{elsewhere(text, *OF_MICROCHIP)}"
        raise SpecError(f"part {shown(text)} is none of PolarFire's", remedy=remedy)
