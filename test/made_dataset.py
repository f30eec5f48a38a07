# SPDX-License-Identifier: Apache-2.0
"""Small VOC-format datasets made by code."""

import os
from pathlib import Path

import cv2
import numpy as np

from training.compose import annotation
from training.composition.compose import Placed

COLOURS = {"disc": (40, 40, 220), "square": (220, 120, 30)}

# Of a command that runs in another folder: `training` is not installed.
_PATHS = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, _PATHS))}


def make_set(root: Path, images: int = 8, size: tuple[int, int] = (120, 90), seed: int = 0):
    """Coloured discs and squares on noise, half of the images in each of trainval and test."""
    rng = np.random.default_rng(seed)
    ids = [f"{i:04d}" for i in range(images)]
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for image_id in ids:
        image = rng.integers(90, 160, (size[1], size[0], 3), dtype=np.uint8)
        placed = []
        for k, (name, colour) in enumerate(COLOURS.items()):
            side = int(rng.integers(24, 44))
            x = int(rng.integers(0, size[0] // 2 - side)) + k * size[0] // 2
            y = int(rng.integers(0, size[1] - side))
            if name == "disc":
                cv2.circle(image, (x + side // 2, y + side // 2), side // 2, colour, -1)
            else:
                cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), colour, -1)
            placed.append(Placed(name, (x, y, x + side, y + side), 1.0))
        cv2.imwrite(str(root / "JPEGImages" / f"{image_id}.png"), image)
        data = annotation(image_id, size, placed)
        (root / "Annotations" / f"{image_id}.xml").write_bytes(data)
    half = images // 2
    for name, part in (("trainval", ids[:half]), ("test", ids[half:])):
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(part) + "\n")
    return root
