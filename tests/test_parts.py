"""The table of parts and how part numbers are matched to it."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY

from flow.backends.base import BACKENDS
from flow.backends.functions import functions
from flow.errors import SpecError
from flow.parts import LATTICE_PARTS, PACKAGES, PARTS, complete_names, complete_part, find_device, find_part
from flow.target import Target


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("xcvu13p-flga2577-2-e", "xcvu13p"),
        ("xc7z020clg400-1", "xc7z020"),
        ("xc7z020-clg400-1", "xc7z020"),
        ("7z020clg400-1", "xc7z020"),
        ("XC7A100T-CSG324-1", "xc7a100t"),
        ("xc7a100ticsg324-1L", "xc7a100t"),
        ("xcku5p-ffvb676-2-e", "xcku5p"),
        ("xck26-sfvc784-2LV-c", "xck26"),
        ("xcu55c-fsvh2892-2L-e", "xcu55c"),
        ("xcu50-fsvh2104-2-e", "xcu50"),
        ("xcu250", "xcu250"),
    ],
)
def test_spellings(text: str, device: str) -> None:
    assert find_part(text).name == device


@pytest.mark.parametrize(
    "text", ["", "xc7z02", "xcvu9-fsva3824-1-e", "xcku5", "xc7nothing", "xcu2500", "xc7z020-", "ep4ce22"]
)
def test_unknown(text: str) -> None:
    with pytest.raises(SpecError, match="is not known; the nearest are xc") as caught:
        find_part(text)
    assert str(caught.value).count("xc") < 6, "not all devices there are"


def test_unknown_names_the_closest() -> None:
    with pytest.raises(SpecError, match=r"the nearest are xcvu9p-flga2104-2-e or xcvu9p-"):
        find_part("xcvu9-flga2104-2-e")


def test_a_device_that_is_not_listed_is_taken_without_capacities() -> None:
    part = find_part("xcvu19p-fsva3824-1-e")
    assert (part.name, part.family, part.capacity()) == ("xcvu19p", "UltraScale+", {})
    assert find_part("xcvc1902-vsva2197-2MP-e-S").family == "Versal"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("xc7z020-clg400-1", "has '-clg400-1' where a package like 'clg400' belongs; .* like xc7z020clg400-1 or "),
        ("xczu9eg-ffvc900-2i", "has no temperature grade; use a complete name, like xczu9eg-ffvc900-2-i or "),
        ("xc7z020clg484-9-zzz", "has '-9-zzz' where a speed grade like '-1' belongs; .* like xc7z020clg484-"),
        ("xcu250", "has no package and no speed grade and no temperature grade; .* like xcu250-figd2104-2L-e; "),
        ("xc7z020clg400", "has no speed grade; .* like xc7z020clg400-"),
        ("xc7z020clg400-1-foo", "has '-foo' behind its last grade; .* like xc7z020clg400-1 or "),
        ("nope", "is none of AMD's; .* like xc7z020clg400-1 or xczu9eg-ffvb1156-2-e or xcvu13p-flga2577-2-e; "),
        ("", "is none of AMD's"),
    ],
)
def test_names_that_are_not_complete(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        complete_part(text)


@pytest.mark.parametrize(
    "name",
    [
        "xc7a100ticsg324-1L",
        "xc7z007sclg400-1",
        "xc7z030sbg485-1",
        "xc7s50csga324-1",
        "xa7z020clg400-1I",
        "xcku040-ffva1156-1LV-i",
        "xcau10p-ffvb676-1-e",
        "xcvu37p-fsvh2892-2-e-es1",
        "xcvu35p_CIV-fsvh2104-2-e",
        "xck26-sfvc784-2LV-c",
        "xcvc1902-vsva2197-2MP-e-S",
        "xc2ve3858-ssva2112-2MP-e-S",
        "xcv80-lsva4737-2MHP-e-S",
    ],
)
def test_complete_names(name: str) -> None:
    for spelled in (name, name.upper(), name.lower(), f" {name} ", name.replace("-", " - ", 1)):
        assert complete_part(spelled) == Target(part=spelled).part == name


def test_proposed_names_are_complete() -> None:
    assert set(PACKAGES) == {part.name for part in PARTS}
    for part in PARTS:
        for name in complete_names(part):
            assert complete_part(name) == name and find_part(name) is part


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_back_end_takes_its_own_part_and_no_other(backend: str) -> None:
    functions(Target(backend=backend)).check_part(Target(backend=backend))
    with pytest.raises(SpecError, match="'nope'"):
        functions(Target(backend=backend)).check_part(Target(backend=backend, part="nope"))


@pytest.mark.parametrize(
    ("backend", "text", "name"),
    [
        ("Quartus", "arria10", "Arria10"),
        ("oneAPI", "AGFB014R24A3E3VR0", "AGFB014R24A3E3VR0"),
        ("Quartus", " cyclone 10 gx", "Cyclone10GX"),
        ("Quartus", "5cgxfc7c7f23c8", "5CGXFC7C7F23C8"),
        ("Libero", "MPF500T", "MPF500T"),
        ("Libero", "mpf 300ts", "MPF300TS"),
        ("rtl", "lfe5u-45f-6bg381c", "LFE5U-45F-6BG381C"),
        ("rtl", "ICE40UP5K-sg48i ", "iCE40UP5K-SG48I"),
        ("rtl", "XC7Z020 CLG400-1", "xc7z020clg400-1"),
    ],
)
def test_parts_of_other_vendors(backend: str, text: str, name: str) -> None:
    target = Target(backend=backend, part=text)
    functions(target).check_part(target)
    assert target.part == name


@pytest.mark.parametrize(
    ("backend", "part", "takers"),
    [
        ("Vitis", "5CGXFC7", "Quartus or oneAPI"),
        ("Vivado", "10AX115S2F45I1SG", "Quartus or oneAPI"),
        ("Vitis", "MPF300T", "Libero"),
        ("Catapult", "LFE5U-45F", "rtl"),
        ("rtl", "Agilex7", "Quartus or oneAPI"),
        ("oneAPI", "xcvu13p-flga2577-2-e", "Vitis or Vivado or Catapult or rtl"),
        ("Libero", "Arria10", "Quartus or oneAPI"),
        ("Quartus", "nope", ""),
        ("Vitis", "xczu9eg", ""),
    ],
)
def test_a_part_of_another_vendor_names_the_back_ends_that_take_it(backend: str, part: str, takers: str) -> None:
    target = Target(backend=backend, part=part)
    with pytest.raises(SpecError) as caught:
        functions(target).check_part(target)
    said = f"; one like {part!r} goes with --backend {takers}"
    assert (said in str(caught.value)) == bool(takers) and ("--backend" in str(caught.value)) == bool(takers)


def test_the_documents_list_the_devices() -> None:
    text = (REPOSITORY / "docs" / "estimates.md").read_text().partition("## Parts")[2]
    assert re.findall("`([a-zA-Z0-9-]+)`", text.partition("|---|")[2]) == [p.name for p in (*PARTS, *LATTICE_PARTS)]


def test_every_device_finds_itself() -> None:
    assert [find_part(part.name) for part in PARTS] == list(PARTS)
    assert [find_part(f"{part.name}-ffva1156-2-e") for part in PARTS] == list(PARTS)


def test_default_target_is_known() -> None:
    assert find_part(Target().part).capacity() == {
        "lut": 1_728_000,
        "ff": 3_456_000,
        "dsp": 12_288,
        "bram_18k": 5_376,
        "uram": 1_280,
    }


def test_two_flip_flops_per_lut() -> None:
    assert all(part.ff == 2 * part.lut for part in PARTS), "a slice has two flip-flops per LUT in all these families"
    assert all(part.bram_18k % 2 == 0 for part in PARTS), "the vendor counts blocks of 36 kbit"
    assert all(part.uram == 0 for part in PARTS if part.family != "UltraScale+")


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("LFE5U-45F-6BG381C", "LFE5U-45F"),
        ("lfe5um5g-85f", "LFE5UM5G-85F"),
        ("iCE40UP5K-SG48I", "iCE40UP5K"),
        ("ICE40HX8K-CT256", "iCE40HX8K"),
        ("xc7z020clg400-1", "xc7z020"),
    ],
)
def test_devices_of_both_vendors(text: str, device: str) -> None:
    assert find_device(text).name == device


@pytest.mark.parametrize("text", ["", "LFE5U-45", "LFE5U-45F-9BG381C", "iCE40HX8", "iCE40UP5K-", "xc7z02"])
def test_unknown_devices_of_both_vendors(text: str) -> None:
    with pytest.raises(SpecError, match=r"the nearest are xc.*; of Lattice (LFE5U|iCE40)"):
        find_device(text)


def test_one_flip_flop_per_lut_at_lattice() -> None:
    assert all(part.ff == part.lut and part.uram == 0 for part in LATTICE_PARTS)
    assert [find_device(part.name) for part in LATTICE_PARTS] == list(LATTICE_PARTS)
    assert {part.bram_18k for part in LATTICE_PARTS if part.family.startswith("iCE40")} == {0}
