# SPDX-License-Identifier: Apache-2.0
"""Images made by code."""

import io

import cv2
import numpy as np
from PIL import Image as PillowImage


def made_image(seed: int, width: int, height: int) -> np.ndarray:
    """Shapes on a noisy gradient, BGR."""
    generator = np.random.default_rng(seed)
    across = np.linspace(0, 255, width)[None, :, None] * generator.random(3)
    down = np.linspace(0, 255, height)[:, None, None] * generator.random(3)
    noise = generator.normal(0, 12, (height, width, 3))
    image = np.clip((across + down) / 2 + noise, 0, 255).astype(np.uint8)
    for i in range(8):
        x, y = (int(generator.integers(size)) for size in (width, height))
        colour = tuple(generator.integers(0, 256, 3).tolist())
        size = int(generator.integers(5, min(width, height) // 3))
        if i % 2:
            cv2.circle(image, (x, y), size, colour, cv2.FILLED)
        else:
            cv2.rectangle(image, (x, y), (x + 2 * size, y + size), colour, cv2.FILLED)
    return image


def jpeg_of_many_scans(width: int, height: int, scans: int) -> bytes:
    """A small valid JPEG that takes as long to decode as so many of its size."""
    file = io.BytesIO()
    grey = PillowImage.new("L", (width, height))
    grey.save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * (scans - data.count(b"\xff\xda") + 1) + data[end:]
