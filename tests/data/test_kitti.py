"""KITTI detection: what is read, which objects count, and what every fault is answered with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="pillow is not installed")

from fixtures_kitti import dont_care, generate, line, write

from flow.data.kitti import DIFFICULTIES, IOU_THRESHOLDS, KittiImages, load_kitti, read_labels
from flow.errors import DataError, SpecError, ToolMissingError

REAL = "Truck 0.00 0 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56"  # as in the kit's readme


def labels(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "000000.txt"
    path.write_text("".join(f"{each}\n" for each in lines))
    return path


def test_a_line_has_fifteen_columns(tmp_path: Path) -> None:
    truck, region = read_labels(labels(tmp_path, REAL, "", dont_care((1, 2, 3, 4))))
    assert (truck.type, truck.truncation, truck.occlusion, truck.alpha) == ("Truck", 0, 0, -1.57)
    assert truck.box == (599.41, 156.40, 629.75, 189.25) and truck.dimensions == (2.85, 2.63, 12.34)
    assert truck.location == (0.47, 1.49, 69.44) and truck.rotation_y == -1.56
    assert (region.type, region.occlusion, region.box) == ("DontCare", -1, (1, 2, 3, 4))
    assert read_labels(labels(tmp_path)) == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (REAL.rsplit(" ", 1)[0], "has 14 columns; expected 15"),
        (f"{REAL} 0.9", "has 16 columns"),
        (REAL.replace("Truck", "Lorry"), "type 'Lorry' is unknown; expected one of Car, Van"),
        (REAL.replace("599.41", "left"), "holds what is no number"),
        (REAL.replace("599.41", "nan"), "a number is not finite"),
        (REAL.replace("Truck 0.00 0 ", "Truck 0.00 4 "), "occlusion 4 is not -1, 0, 1, 2 or 3"),
        (REAL.replace("629.75", "29.75"), "box 599.41 156.4 29.75 189.25 ends before it starts"),
    ],
)
def test_malformed_lines_are_named(wrong: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"000000.txt: line 2: .*{message}"):
        read_labels(labels(tmp_path, REAL, wrong))


def test_unreadable_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt: not a readable file of labels"):
        read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("height", "truncation", "occlusion", "counted"),
    [
        (40, 0.15, 0, "easy moderate hard"),
        (39.9, 0, 0, "moderate hard"),
        (40, 0.16, 0, "moderate hard"),
        (25, 0.30, 1, "moderate hard"),
        (25, 0.31, 0, "hard"),
        (100, 0.50, 2, "hard"),
        (24.9, 0, 0, ""),
        (100, 0.51, 0, ""),
        (100, 0, 3, ""),
    ],
)
def test_difficulties(height: float, truncation: float, occlusion: int, counted: str, tmp_path: Path) -> None:
    (each,) = read_labels(labels(tmp_path, line("Car", (0, 0, 30, height), truncation, occlusion)))
    assert " ".join(name for name, difficulty in DIFFICULTIES.items() if each.counts(difficulty)) == counted


@pytest.fixture
def street(tmp_path: Path) -> KittiImages:
    pixels = np.full((100, 200, 3), 51, np.uint8)
    pixels[:, 100:] = 255
    lines = [
        line("Car", (0, 0, 40, 50)),
        line("Car", (50, 0, 90, 30)),  # too low for easy
        line("Van", (100, 0, 140, 50)),
        line("Person_sitting", (150, 0, 160, 50)),
        line("Pedestrian", (160, 0, 170, 50)),
        line("Tram", (0, 60, 100, 100)),
        dont_care((180, 80, 200, 100)),
    ]
    write(tmp_path, "000007", pixels, lines)
    write(tmp_path, "000002", pixels[:50], [])
    return load_kitti(tmp_path, height=50, width=50)


def test_images_are_stretched_to_one_size(street: KittiImages) -> None:
    assert street.names == ("000002", "000007") and street.sizes.tolist() == [[50, 200], [100, 200]]
    assert street.inputs.shape == (2, 50, 50, 3) and street.inputs.dtype == np.float32
    np.testing.assert_allclose(street.inputs[:, :, :24], 0.2)
    np.testing.assert_allclose(street.inputs[:, :, 26:], 1.0)
    assert [len(objects) for objects in street.objects] == [0, 7]


def test_what_a_detector_should_find(street: KittiImages) -> None:
    empty, truth = street.truths("easy")
    assert empty.boxes.shape == (0, 4) and empty.dont_care.shape == (0, 4) and empty.min_height == 40
    assert truth.classes.tolist() == [0, 0, 0, 1, 1]  # two cars, a van, someone sitting, a pedestrian
    assert truth.ignored.tolist() == [False, True, True, True, False] and truth.min_height == 20
    assert truth.boxes[0].tolist() == [0, 0, 10, 25] and truth.dont_care.tolist() == [[45, 40, 50, 50]]
    assert street.truths("moderate")[1].ignored.tolist() == [False, False, True, True, False]
    van, tram = street.truths("hard", ("Van", "Tram"))[1].classes.tolist()
    assert (van, tram) == (0, 1) and set(IOU_THRESHOLDS) == {"Car", "Pedestrian", "Cyclist"}
    with pytest.raises(SpecError, match="difficulty 'hardest' is unknown; expected one of easy, moderate, hard"):
        street.truths("hardest")


def test_a_subset_is_drawn_by_its_seed(tmp_path: Path) -> None:
    generate(tmp_path, 8, 1)
    one, same, other = (load_kitti(tmp_path, height=12, width=20, samples=4, seed=seed) for seed in (1, 1, 2))
    assert one.names == same.names != other.names and len(set(one.names)) == 4
    assert np.array_equal(one.inputs, same.inputs) and one.objects == same.objects


def load(root: Path, **arguments: Any) -> KittiImages:
    return load_kitti(root, **{"height": 12, "width": 20, **arguments})


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image_2: no such directory; expected training/image_2 and training/label_2"):
        load(tmp_path)
    generate(tmp_path, 2, 1)
    with pytest.raises(DataError, match=r"holds 2 images \(\*.png\), fewer than the 3 needed"):
        load(tmp_path, samples=3)
    (tmp_path / "training" / "label_2" / "000001.txt").unlink()
    with pytest.raises(DataError, match=r"000001.txt: not a readable file of labels"):
        load(tmp_path)
    for path in (tmp_path / "training" / "image_2").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds 0 images"):
        load(tmp_path)


def test_damaged_images_are_named(tmp_path: Path) -> None:
    path = generate(tmp_path, 1, 1) / "training" / "image_2" / "000000.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"000000.png: not a readable image"):
        load(tmp_path)


@pytest.mark.parametrize("arguments", [{"height": 0}, {"width": 0}, {"samples": 0}, {"style": "torch"}])
def test_wrong_arguments(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"expected at least 1 each|style 'torch' is unknown"):
        load(tmp_path, **arguments)


def test_absent_pillow_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path, 1, 1)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ToolMissingError, match=r"pip install 'po2flow\[images\]'"):
        load(tmp_path)
