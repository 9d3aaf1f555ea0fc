"""A generated data set in KITTI's format: coloured rectangles on a grey ground, each type in its colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"Car": (220, 40, 40), "Pedestrian": (40, 220, 40), "Van": (40, 40, 220)}
HEIGHT, WIDTH = 96, 160


def line(kind: str, box: tuple[float, ...], truncation: float = 0.0, occlusion: int = 0) -> str:
    """Return a line of labels; what lies in space is made up."""
    left, top, right, bottom = box
    flat = f"{left:.2f} {top:.2f} {right:.2f} {bottom:.2f}"
    return f"{kind} {truncation:.2f} {occlusion} -1.57 {flat} 1.50 1.60 3.90 1.00 1.70 20.00 -1.50"


def dont_care(box: tuple[float, ...]) -> str:
    left, top, right, bottom = box
    return f"DontCare -1 -1 -10 {left:.2f} {top:.2f} {right:.2f} {bottom:.2f} -1 -1 -1 -1000 -1000 -1000 -10"


def write(root: Path, name: str, pixels: np.ndarray, lines: list[str]) -> None:
    for folder in ("image_2", "label_2"):
        (root / "training" / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "training" / "image_2" / f"{name}.png")
    (root / "training" / "label_2" / f"{name}.txt").write_text("".join(f"{each}\n" for each in lines))


def generate(root: Path, images: int, seed: int) -> Path:
    """Write images with one to three objects that do not touch; every fourth has a region that is not labelled."""
    rng = np.random.default_rng(seed)
    for number in range(images):
        pixels = rng.integers(90, 130, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        lines = []
        for column in rng.permutation(3)[: rng.integers(1, 4)]:
            kind = ("Car", "Pedestrian")[rng.integers(2)]
            height, width = (28, 40) if kind == "Car" else (44, 20)
            height, width = (int(size * rng.uniform(0.95, 1.15)) for size in (height, width))
            left, top = int(column * 53 + rng.integers(0, 53 - width + 1)), int(rng.integers(0, HEIGHT - height))
            box = (left, top, min(left + width, WIDTH), top + height)
            pixels[box[1] : box[3], box[0] : box[2]] = COLOURS[kind]
            lines.append(line(kind, box))
        if number % 4 == 0:
            lines.append(dont_care((0, 0, 8, 8)))
        write(root, f"{number:06}", pixels, lines)
    return root
