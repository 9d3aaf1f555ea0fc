"""ImageNet folders: what is read, how it is scaled, and what every fault is answered with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.data.imagenet import load_imagenet_folder
from flow.data.images import preprocess, read_cropped, read_pixels
from flow.errors import DataError, SpecError, ToolMissingError

pillow = pytest.importorskip("PIL.Image", reason="pillow is not installed")
WNIDS = ("n01440764", "n01443537", "n02084071")
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def picture(path: Path, colour: Any, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("RGB", size, tuple(colour)).convert(mode).save(path, quality=95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four images, each of the colour of its class; made in another order than they are read."""
    for wnid, colour in reversed(list(zip(WNIDS, COLOURS, strict=True))):
        for number in range(4):
            picture(tmp_path / wnid / f"{wnid}_{number}.JPEG", colour, (40 + number, 30))
    (tmp_path / "LICENSE").write_text("not a class")
    return tmp_path


def small(root: Path, **arguments: Any) -> Any:
    return load_imagenet_folder(root, **{"shorter_side": 16, "crop": 12, "style": "raw", **arguments})


def test_all_images_in_the_order_of_their_classes(folder: Path) -> None:
    images = small(folder)
    assert images.inputs.shape == (12, 12, 12, 3) and images.inputs.dtype == np.float32
    assert images.class_names == WNIDS and images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [path.name for path in images.files[:2]] == ["n01440764_0.JPEG", "n01440764_1.JPEG"]
    for label, pixels in zip(images.labels, images.inputs, strict=True):
        assert np.abs(pixels - COLOURS[label]).max() <= 4  # JPEG


def test_a_subset_is_drawn_by_its_seed(folder: Path) -> None:
    one, same, other = (small(folder, samples=5, seed=seed) for seed in (1, 1, 2))
    assert one.files == same.files != other.files and np.array_equal(one.inputs, same.inputs)
    assert len(set(one.files)) == 5 and [WNIDS.index(path.parent.name) for path in one.files] == one.labels.tolist()


def test_all_classes_of_the_network_may_be_given(folder: Path) -> None:
    names = ("n00000001", *WNIDS)
    assert set(small(folder, class_names=names).labels.tolist()) == {1, 2, 3}
    with pytest.raises(DataError, match="class n02084071 is not in the class_names that were given"):
        small(folder, class_names=WNIDS[:2])
    with pytest.raises(SpecError, match="class_names names a class twice"):
        small(folder, class_names=(*WNIDS, WNIDS[0]))


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path: Path) -> None:
    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, 20:40] = 255  # the middle third is white
    pillow.fromarray(stripes).save(tmp_path / "wide.png")
    assert (read_cropped(tmp_path / "wide.png", 20, 20) == 255).all()
    half = read_cropped(tmp_path / "wide.png", 10, 10)
    assert half.shape == (10, 10, 3) and (half[:, 1:-1] == 255).all()
    pillow.fromarray(stripes.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    assert (read_cropped(tmp_path / "tall.png", 20, 20) == 255).all()
    assert np.array_equal(read_pixels(tmp_path / "wide.png"), stripes)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "RGBA"])
def test_every_colour_space_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    picture(path, (255, 255, 255), mode=mode)
    assert read_pixels(path).shape == (30, 40, 3) and read_pixels(path).min() >= 253


def test_styles_by_hand() -> None:
    pixel = np.array([[255, 0, 51]], np.uint8)
    assert preprocess(pixel, "raw").tolist() == [[255, 0, 51]]
    np.testing.assert_allclose(preprocess(pixel, "unit"), [[1, 0, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(preprocess(pixel, "tf"), [[1, -1, -0.6]], rtol=1e-6)
    np.testing.assert_allclose(preprocess(pixel, "caffe"), [[51 - 103.939, -116.779, 255 - 123.68]], rtol=1e-6)
    assert all(preprocess(pixel, style).dtype == np.float32 for style in ("raw", "unit", "tf", "caffe"))


@pytest.mark.parametrize("style", ["tf", "caffe"])
def test_styles_are_those_of_keras(style: str) -> None:
    train = pytest.importorskip("flow.train")
    try:
        keras = train.load_tensorflow().keras
    except ToolMissingError as error:
        pytest.skip(str(error))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    expected = keras.applications.imagenet_utils.preprocess_input(pixels.astype(np.float32), mode=style)
    np.testing.assert_allclose(preprocess(pixels, style), expected, rtol=1e-6, atol=1e-5)


# files of labels


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for number, colour in enumerate(COLOURS, 1):
        picture(tmp_path / "val" / f"ILSVRC2012_val_{number:08}.JPEG", colour)
    return tmp_path / "val"


def labels(flat: Path, *classes: str) -> Path:
    path = flat.parent / "val.txt"
    path.write_text("".join(f"ILSVRC2012_val_{n:08}.JPEG {name}\n" for n, name in enumerate(classes, 1)))
    return path


def test_labels_as_wordnet_ids(flat: Path) -> None:
    images = small(flat, labels=labels(flat, WNIDS[1], WNIDS[0], WNIDS[1]))
    assert images.class_names == WNIDS[:2] and images.labels.tolist() == [1, 0, 1]
    assert small(flat, labels=labels(flat, *WNIDS), class_names=WNIDS[::-1]).labels.tolist() == [2, 1, 0]


def test_labels_as_numbers(flat: Path) -> None:
    images = small(flat, labels=labels(flat, "2", "0", "2"))
    assert images.class_names == ("0", "1", "2") and images.labels.tolist() == [2, 0, 2]
    assert small(flat, labels=labels(flat, "2", "0"), class_names=WNIDS).class_names == WNIDS
    with pytest.raises(DataError, match="class number 3 is not below 3"):
        small(flat, labels=labels(flat, "3"), class_names=WNIDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no labels"),
        ("\na.JPEG n0144076\n", r"line 2 is 'a.JPEG n0144076'; expected a file name and a WordNet id or class number"),
        ("a.JPEG\n", "line 1 is 'a.JPEG'"),
        ("a.JPEG 1 2\n", "line 1"),
        ("a.JPEG -1\n", "line 1"),
        ("a.JPEG 1\nb.JPEG n01440764\n", "line 2: class 'n01440764' is not of the kind of those before it"),
        (f"a.JPEG {'9' * 30}\n", "line 1"),
        ("absent.JPEG 1\n", "absent.JPEG: no such file"),
    ],
)
def test_wrong_labels_are_named(text: str, message: str, flat: Path) -> None:
    (flat.parent / "val.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        small(flat, labels=flat.parent / "val.txt")


def test_unreadable_labels(flat: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt: not a readable file of labels"):
        small(flat, labels=flat / "none.txt")
    (flat / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a readable file of labels"):
        small(flat, labels=flat / "binary.txt")


# faults


def test_missing_and_empty_directories(folder: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such directory; expected one with a directory of images"):
        small(folder / "nothing")
    with pytest.raises(DataError, match="holds no directory named by a WordNet id"):
        small(folder / WNIDS[0])
    (folder / "n09999999").mkdir()
    with pytest.raises(DataError, match=r"n09999999: holds no image .*; remove the empty class or fill it"):
        small(folder)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_images_are_named(damage: str, folder: Path) -> None:
    path = folder / WNIDS[1] / f"{WNIDS[1]}_2.JPEG"
    path.write_bytes({"cut": path.read_bytes()[:400], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(DataError, match=rf"{path.name}: not a readable image .*; replace the file or leave it out"):
        small(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples is 0; expected at least 1"),
        ({"crop": 20}, r"crop 20 is not within 1\.\.16"),
        ({"crop": 0}, "crop 0 is not within"),
        ({"style": "torch"}, "preprocessing style 'torch' is unknown; expected one of caffe, tf, unit, raw"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(SpecError, match=message):
        small(folder, **arguments)


def test_more_images_than_there_are(folder: Path) -> None:
    with pytest.raises(DataError, match="13 images were asked for, but there are 12; ask for fewer"):
        small(folder, samples=13)


def test_absent_pillow_names_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ToolMissingError, match=r"package 'pillow' .*pip install 'po2flow\[images\]'"):
        small(folder)
