"""The table of parts and how part numbers are matched to it."""

from __future__ import annotations

import pytest

from flow.errors import SpecError
from flow.parts import LATTICE_PARTS, PARTS, find_device, find_part
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
    "text", ["", "xc7z02", "xcvu19p-fsva3824-1-e", "xcku5", "xc7a100", "xcu2500", "xc7z020-", "ep4ce22"]
)
def test_unknown(text: str) -> None:
    with pytest.raises(SpecError, match="known devices: xc7z010, xc7z020"):
        find_part(text)


def test_unknown_names_the_closest() -> None:
    with pytest.raises(SpecError, match=r"did you mean xcvu9p"):
        find_part("xcvu19p-fsva3824-1-e")


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
    with pytest.raises(SpecError, match=r"known devices: xc7z010.*; of Lattice: LFE5U-25F, LFE5UM-25F"):
        find_device(text)


def test_one_flip_flop_per_lut_at_lattice() -> None:
    assert all(part.ff == part.lut and part.uram == 0 for part in LATTICE_PARTS)
    assert [find_device(part.name) for part in LATTICE_PARTS] == list(LATTICE_PARTS)
    assert {part.bram_18k for part in LATTICE_PARTS if part.family.startswith("iCE40")} == {0}
