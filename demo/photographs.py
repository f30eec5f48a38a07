# SPDX-License-Identifier: Apache-2.0
"""The demo's cut-outs and backgrounds, from the photographs inside scikit-image's wheel.

The outlines were drawn by hand; GrabCut refines the few pixels next to
them. Nothing is downloaded: `skimage.data` is read from the installed
package.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from ssd_ros.io import image_files

_BAND = 4  # pixels on both sides of an outline that GrabCut decides about


@dataclass(frozen=True)
class Outline:
    """Where an object lies in a photograph.

    Attributes:
        name: class of the object.
        photograph: file name in `skimage/data`.
        corners: x y of the outline's corners in pixels, as one string of numbers.
    """

    name: str
    photograph: str
    corners: str

    @property
    def polygon(self) -> np.ndarray:
        """int32 (N, 2)."""
        return np.array(self.corners.split(), np.int32).reshape(-1, 2)


OUTLINES = (
    Outline(
        "person",
        "astronaut.png",
        """235 16 255 19 275 30 290 45 299 65 300 90 293 108 282 126 272 136 265 136 258 150 256
        172 270 181 290 203 302 226 305 240 318 245 335 258 345 280 352 305 358 330 362 347
        345 352 325 362 310 378 295 400 285 425 279 455 277 485 278 511 40 511 25 485 22 450
        24 420 20 400 22 380 28 350 30 325 38 295 45 275 52 255 65 240 85 225 105 212 113 205
        116 190 122 170 135 157 155 150 180 149 182 140 172 128 165 118 158 105 154 85 153 70
        160 52 172 43 190 35 205 22 220 17""",
    ),
    Outline(
        "rocket",
        "astronaut.png",
        """406 0 400 15 397 30 396 52 388 42 381 52 380 105 377 125 378 170 366 193 356 208 353
        220 356 228 378 232 372 248 367 268 376 268 388 255 390 266 404 266 408 255 412 275
        424 275 428 258 434 268 442 262 456 262 453 242 456 232 456 215 447 202 437 190 453
        175 455 120 455 55 450 42 443 40 437 52 436 25 430 0""",
    ),
    Outline(
        "cat",
        "chelsea.png",
        """38 0 33 40 31 80 33 105 40 130 50 155 62 178 85 200 110 225 140 250 170 268 200 276
        235 280 262 282 285 275 303 262 308 238 312 212 330 192 345 170 355 150 362 120 358 95
        350 75 362 68 372 50 385 25 395 0""",
    ),
    Outline(
        "cup",
        "coffee.png",
        """181 68 203 47 237 26 284 18 337 25 368 42 392 63 400 69 415 66 424 72 423 85 418 106
        440 127 458 153 472 186 479 226 475 264 463 295 445 323 421 347 395 364 368 376 335
        384 300 388 268 388 237 384 207 376 179 363 150 343 126 321 109 301 95 279 85 256 79
        232 77 212 79 195 87 163 105 126 122 108 142 92""",
    ),
    Outline(
        "motorbike",
        "motorcycle_left.png",
        """93 206 97 200 121 199 148 206 140 180 138 155 146 148 154 146 168 153 171 162 218 169
        235 171 253 185 288 193 329 187 356 189 382 178 400 168 425 158 440 154 400 158 384
        195 384 180 398 160 396 152 378 162 362 174 356 172 360 163 385 147 388 140 412 122
        426 124 438 135 450 141 465 150 468 132 482 115 497 115 501 106 494 82 503 78 518 88
        544 99 532 105 538 121 556 132 565 121 574 118 582 126 579 140 562 141 562 159 553 176
        540 188 552 205 579 259 600 266 624 279 644 303 638 315 659 338 676 368 682 400 676
        426 662 442 641 450 612 447 579 432 553 406 532 376 518 341 513 321 506 329 507 312
        521 291 526 285 512 259 500 229 490 205 478 222 466 234 479 253 480 285 474 321 462
        347 441 368 418 379 365 376 345 374 336 382 338 412 341 430 324 436 329 406 326 376
        306 368 282 356 274 365 259 382 235 394 206 400 176 395 150 376 132 350 122 318 122
        288 132 259 147 244 135 240 112 247 103 238 118 225 94 218""",
    ),
)

# Photographs, and the parts (x1 y1 x2 y2 in pixels) of some without any of the objects.
BACKGROUNDS: tuple[tuple[str, tuple[int, int, int, int] | None], ...] = (
    ("brick.png", None),
    ("clock_motion.png", None),
    ("coins.png", None),
    ("grass.png", None),
    ("gravel.png", None),
    ("hubble_deep_field.jpg", None),
    ("ihc.png", None),
    ("moon.png", None),
    ("page.png", None),
    ("retina.jpg", (250, 250, 1150, 1150)),
    ("astronaut.png", (0, 0, 140, 140)),  # flag and wall
    ("astronaut.png", (302, 0, 350, 230)),  # wall
    ("astronaut.png", (370, 345, 512, 512)),  # helmet
    ("chelsea.png", (400, 0, 451, 300)),  # room
    ("coffee.png", (490, 0, 600, 400)),  # table
    ("coffee.png", (0, 0, 175, 60)),  # table's edge
    ("motorcycle_left.png", (0, 0, 330, 100)),  # garage
    ("motorcycle_left.png", (0, 0, 90, 500)),  # garage
    ("motorcycle_left.png", (580, 0, 741, 110)),  # shelf
    ("motorcycle_left.png", (0, 455, 741, 500)),  # floor
    ("rocket.jpg", (0, 0, 275, 427)),  # evening sky and a mast
    ("rocket.jpg", (370, 0, 640, 427)),  # evening sky and masts
)


def folder() -> Path:
    """`skimage/data` of the installed package.

    Raises:
        FileNotFoundError: scikit-image is not installed.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise FileNotFoundError(
            "the demo's photographs come with scikit-image: pip install scikit-image"
        )
    return Path(package.origin).parent / "data"


def cutouts() -> list[tuple[str, np.ndarray]]:
    """The objects: their names and BGRA pixels (H, W, 4), cropped to the object."""
    return [(outline.name, _cut_out(outline)) for outline in OUTLINES]


def backgrounds() -> list[np.ndarray]:
    """The backgrounds, BGR (H, W, 3) of different sizes."""
    parts = []
    for name, part in BACKGROUNDS:
        photograph = image_files.read(folder() / name)
        x1, y1, x2, y2 = part or (0, 0, *photograph.shape[1::-1])
        parts.append(photograph[y1:y2, x1:x2])
    return parts


def _cut_out(outline: Outline) -> np.ndarray:
    photograph = image_files.read(folder() / outline.photograph)
    alpha = object_mask(photograph, outline.polygon)
    x, y, w, h = cv2.boundingRect(alpha)
    return np.dstack((photograph, alpha))[y : y + h, x : x + w]


def object_mask(photograph: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """uint8 (H, W), 255 on the object: the polygon, its edge moved to where the colours change."""
    inside = cv2.fillPoly(np.zeros(photograph.shape[:2], np.uint8), [polygon], 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND + 1,) * 2)
    # An object cut by the image's border is not eroded there.
    sure = cv2.erode(inside, kernel, borderType=cv2.BORDER_REPLICATE)
    near = cv2.dilate(inside, kernel)
    mask = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[sure == 1], mask[near == 0] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(photograph, mask, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    object_pixels = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    object_pixels = cv2.morphologyEx(object_pixels, cv2.MORPH_OPEN, kernel[3:6, 3:6])
    return _largest_part(object_pixels) * 255


def _largest_part(mask: np.ndarray) -> np.ndarray:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    return (parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
