# SPDX-License-Identifier: Apache-2.0
"""Images with known boxes, composed of cut-outs pasted onto backgrounds.

After "Cut, Paste and Learn" (Dwibedi et al., ICCV 2017): scale, rotation, occlusion, truncation at
the border, distractors, and soft edges, so that a detector learns the objects and not the seams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_MIN_VISIBLE = 0.5  # another placement is tried if less of any object would be visible
_TRIES = 8


@dataclass(frozen=True)
class CutOut:
    """An object without its surroundings.

    Attributes:
        name: its class.
        pixels: uint8 BGRA (H, W, 4); alpha is 255 on the object.
    """

    name: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Placed:
    """An object in a composed image.

    Attributes:
        name: its class.
        box: x1 y1 x2 y2 in pixels, continuous, around its visible part.
        seen: share of its area that is neither hidden nor outside the image, 0 to 1.
    """

    name: str
    box: tuple[int, int, int, int]
    seen: float


def compose(
    rng: np.random.Generator,
    cutouts: Sequence[CutOut],
    backgrounds: Sequence[np.ndarray],
    size: tuple[int, int],
    most_objects: int = 4,
) -> tuple[np.ndarray, list[Placed]]:
    """One image and the objects in it.

    Args:
        rng: source of all random numbers; the same state gives the same image.
        cutouts: objects to choose from, each class with the same probability.
        backgrounds: BGR images to choose from.
        size: width and height of the image in pixels.
        most_objects: maximum number of objects; one image in twelve has none.

    Returns:
        BGR uint8 (H, W, 3), and its objects.
    """
    width, height = size
    canvas = _background(rng, backgrounds, size).astype(np.float32)
    owner = np.full((height, width), -1, np.int16)  # index of the object visible at each pixel
    names: list[str] = []
    areas: list[int] = []
    classes = sorted({cutout.name for cutout in cutouts})
    count = 0 if rng.random() < 1 / 12 else int(rng.integers(1, most_objects + 1))
    for _ in range(int(rng.integers(0, 4))):
        _paste_distractor(rng, canvas, backgrounds)
    for _ in range(count):
        name = classes[rng.integers(len(classes))]
        variants = [cutout for cutout in cutouts if cutout.name == name]
        for _ in range(_TRIES):
            pixels = _vary(rng, variants[rng.integers(len(variants))].pixels, min(size))
            placed = _place(rng, pixels[..., 3], owner, areas)
            if placed is not None:
                x, y, area = placed
                _blend(canvas, pixels, x, y, owner, len(names))
                names.append(name)
                areas.append(area)
                break
    image = _camera(rng, canvas)
    objects = []
    for i, (name, area) in enumerate(zip(names, areas, strict=True)):
        mask = (owner == i).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        objects.append(Placed(name, (x, y, x + w, y + h), float(mask.sum() / area)))
    return image, objects


# --- the objects --------------------------------------------------------------------------------


def _vary(rng: np.random.Generator, pixels: np.ndarray, side: int) -> np.ndarray:
    """The cut-out at a random size, angle, proportion and light; float32 BGRA."""
    longest = side * np.exp(rng.uniform(np.log(0.15), np.log(1.15)))
    scale = longest / max(pixels.shape[:2])
    stretch = np.exp(rng.uniform(-0.2, 0.2, 2)) * scale
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    angle = rng.normal(0, 10)
    h, w = pixels.shape[:2]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix = np.array([[cos, sin], [-sin, cos]]) * stretch
    corners = matrix @ np.array([[0, w, 0, w], [0, 0, h, h]])
    low, high = corners.min(axis=1), corners.max(axis=1)
    full = (*np.ceil(high - low).astype(int),)
    premultiplied = pixels.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    if scale < 0.5:  # the warp reads four pixels for each it writes: smaller needs averaging first
        premultiplied = cv2.GaussianBlur(premultiplied, (0, 0), 0.35 / scale)
    turned = cv2.warpAffine(
        premultiplied, np.column_stack((matrix, -low)), full, flags=cv2.INTER_LINEAR
    )
    alpha = turned[..., 3:]
    colours = turned[..., :3] / np.maximum(alpha, 1) * 255
    contrast, gains = rng.uniform(0.75, 1.25), rng.uniform(0.85, 1.15, 3) * rng.uniform(0.65, 1.35)
    mean = colours[alpha[..., 0] > 128].mean() if (alpha > 128).any() else 128.0
    colours = ((colours - mean) * contrast + mean) * gains
    # A light from one side: darker by up to a third across the object.
    ramp = np.linspace(-1, 1, colours.shape[1]) * rng.uniform(-0.18, 0.18)
    colours = colours * (1 + ramp[None, :, None])
    return np.dstack((colours.clip(0, 255), alpha)).astype(np.float32)


def _place(
    rng: np.random.Generator, alpha: np.ndarray, owner: np.ndarray, areas: Sequence[int]
) -> tuple[int, int, int] | None:
    """A position at which enough of this object and of those below it is visible, and its area."""
    height, width = owner.shape
    h, w = alpha.shape
    x = int(rng.uniform(-0.3 * w, width - 0.7 * w))
    y = int(rng.uniform(-0.3 * h, height - 0.7 * h))
    mask = alpha > 127
    area = int(mask.sum())
    inside, here = _overlap(alpha, x, y, owner.shape)
    if not area or mask[inside].sum() < _MIN_VISIBLE * area:
        return None
    hidden = np.bincount(1 + owner[here][mask[inside]], minlength=1 + len(areas))[1:]
    seen = np.bincount(1 + owner.ravel(), minlength=1 + len(areas))[1:]
    if ((seen - hidden) < _MIN_VISIBLE * np.array(areas, dtype=float)).any():
        return None
    return x, y, area


Slices = tuple[slice, slice]


def _overlap(piece: np.ndarray, x: int, y: int, shape: tuple[int, ...]) -> tuple[Slices, Slices]:
    """The part of a piece at (x, y) that lies in the image: in the piece, and in the image."""
    h, w = piece.shape[:2]
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, shape[1]), min(y + h, shape[0])
    x2, y2 = max(x1, x2), max(y1, y2)
    return np.s_[y1 - y : y2 - y, x1 - x : x2 - x], np.s_[y1:y2, x1:x2]


def _blend(
    canvas: np.ndarray, pixels: np.ndarray, x: int, y: int, owner: np.ndarray, index: int
) -> None:
    """Pastes an object with soft edges, and records where it is visible."""
    inside, here = _overlap(pixels, x, y, canvas.shape)
    alpha = cv2.GaussianBlur(pixels[..., 3], (0, 0), 0.8)[inside][..., None] / 255
    canvas[here] += alpha * (pixels[inside][..., :3] - canvas[here])
    owner[here][pixels[inside][..., 3] > 127] = index


# --- everything else ------------------------------------------------------------------------------


def _background(
    rng: np.random.Generator, backgrounds: Sequence[np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """A random part of a background, tinted at random."""
    source = backgrounds[int(rng.integers(len(backgrounds)))]
    h, w = source.shape[:2]
    part_h, part_w = (max(2, int(side * rng.uniform(0.4, 1.0))) for side in (h, w))
    y, x = rng.integers(0, h - part_h + 1), rng.integers(0, w - part_w + 1)
    part = source[y : y + part_h, x : x + part_w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    part = cv2.resize(
        part, size, interpolation=cv2.INTER_AREA if part_w > size[0] else cv2.INTER_LINEAR
    )
    tinted = part * (rng.uniform(0.55, 1.3) * rng.uniform(0.7, 1.3, 3)) + rng.uniform(-20, 20)
    return tinted.clip(0, 255)


def _paste_distractor(
    rng: np.random.Generator, canvas: np.ndarray, backgrounds: Sequence[np.ndarray]
) -> None:
    """A piece of background in a random shape, so that not every edge belongs to an object."""
    height, width = canvas.shape[:2]
    piece_size = (*(rng.uniform(0.1, 0.5, 2) * (width, height)).astype(int).clip(min=4),)
    piece = _background(rng, backgrounds, piece_size)
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 12))))
    radii = rng.uniform(0.25, 0.5, len(angles))
    corners = np.stack((np.cos(angles), np.sin(angles)), axis=1) * radii[:, None] + 0.5
    mask = np.zeros(piece.shape[:2], np.uint8)
    cv2.fillPoly(mask, [(corners * piece_size).astype(np.int32)], 255)
    x, y = int(rng.uniform(-10, width - 10)), int(rng.uniform(-10, height - 10))
    pixels = np.dstack((piece, mask)).astype(np.float32)
    _blend(canvas, pixels, x, y, np.empty(canvas.shape[:2], np.int16), 0)


def _camera(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Brightness, blur and noise over the whole image, as from a lens and a sensor."""
    image = canvas * rng.uniform(0.7, 1.2)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(1, 8), canvas.shape)
    return image.clip(0, 255).astype(np.uint8)
