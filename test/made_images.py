# SPDX-License-Identifier: Apache-2.0
"""Images made by code."""

import cv2
import numpy as np


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
