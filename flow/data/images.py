"""Image files as arrays: decoded by Pillow, resized, cropped, and scaled as networks were trained on them.

    style    values of one pixel                            trained so, in tf.keras.applications
    caffe    blue, green, red, minus 103.939, 116.779,      ResNet50, VGG16
             123.68
    tf       red, green, blue / 127.5 - 1                   MobileNetV2
    unit     red, green, blue / 255
    raw      red, green, blue, 0 to 255

The first two are `keras.applications.imagenet_utils.preprocess_input` with the mode of that name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, SpecError, ToolMissingError

INSTALL_COMMAND = "pip install 'po2flow[images]'"
SUFFIXES = (".jpeg", ".jpg", ".png")
BGR_MEANS = (103.939, 116.779, 123.68)
Pixels = NDArray[np.uint8]


STYLES: Mapping[str, Callable[[Pixels], Any]] = {
    "caffe": lambda pixels: pixels[..., ::-1].astype(np.float32) - np.array(BGR_MEANS, np.float32),
    "tf": lambda pixels: pixels / np.float32(127.5) - np.float32(1),
    "unit": lambda pixels: pixels / np.float32(255),
    "raw": lambda pixels: pixels.astype(np.float32),
}


def preprocess(pixels: Pixels, style: str) -> NDArray[np.float32]:
    """Return pixels as a network takes them.

    Args:
        pixels: (..., 3) uint8: red, green, blue.
        style: "caffe", "tf", "unit" or "raw", as the table of this module says.

    Returns:
        An array of the same shape, float32.

    Raises:
        SpecError: there is no such style.

    Example:
        >>> preprocess(np.array([0, 51, 255], np.uint8), "unit").tolist()[::2]
        [0.0, 1.0]
    """
    check_style(style)
    return np.asarray(STYLES[style](pixels))


def check_style(style: str) -> None:
    """Complain of a style that is not there.

    Raises:
        SpecError: there is no such style.
    """
    if style not in STYLES:
        raise SpecError(f"preprocessing style '{style}' is unknown", remedy=f"expected one of {', '.join(STYLES)}")


def read_pixels(path: Path) -> Pixels:
    """Return a decoded image, whatever its colour space: (height, width, 3) uint8, red, green, blue.

    Raises:
        DataError: the file is missing, damaged or no image.
        ToolMissingError: Pillow is not installed.
    """
    return np.asarray(_open(path))


def read_resized(path: Path, height: int, width: int) -> tuple[Pixels, tuple[int, int]]:
    """Return an image stretched to a size (bilinear), and its own height and width.

    Raises:
        DataError, ToolMissingError: as `read_pixels`.
    """
    image = _open(path)
    return np.asarray(image.resize((width, height), _pillow().Resampling.BILINEAR)), (image.height, image.width)


def read_cropped(path: Path, shorter_side: int, crop: int) -> Pixels:
    """Return the middle of an image whose shorter side was brought to a length: (crop, crop, 3) uint8.

    Pillow's bilinear filter, which covers all pixels that shrink into one; the longer side is rounded down and the
    middle to even, as torchvision's Resize and CenterCrop do.

    Args:
        path: the image.
        shorter_side: length in pixels after resizing; at least `crop`.
        crop: height and width of what is kept.

    Raises:
        DataError, ToolMissingError: as `read_pixels`.
    """
    image = _open(path)
    short = min(image.width, image.height)
    width, height = shorter_side * image.width // short, shorter_side * image.height // short
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    resized = image.resize((width, height), _pillow().Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


def _open(path: Path) -> Any:
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise DataError("no such file", file=path) from error
    except Exception as error:  # a damaged file fails in many ways: header, stream, size
        remedy = "replace the file or leave it out"
        raise DataError(f"not a readable image ({error})", file=path, remedy=remedy) from error


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        what = f"package 'pillow' cannot be imported ({error})"
        raise ToolMissingError(what, remedy=f"run: {INSTALL_COMMAND}") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a file of labels that hold something, each with its number.

    Raises:
        DataError: it is missing, or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a readable file of labels ({error})", file=path) from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
