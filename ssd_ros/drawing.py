# SPDX-License-Identifier: Apache-2.0
"""Draws detections on an image: boxes, class names and scores."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from ssd_ros.detections import Detections
from ssd_ros.image import Image, ImageError, printable

JPEG_QUALITY = 80  # of annotated images: a twentieth of the raw size, and texts stay readable
MAX_JPEG_SIDE = 65_500  # pixels, of the library
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNICODE = hasattr(cv2, "FontFace")  # OpenCV 5; before, every other character is a question mark
# Latin letters that do not consist of an ASCII letter and a mark.
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"}
)


def annotate(image: Image, detections: Detections, classes: Sequence[str]) -> np.ndarray:
    """A copy of the image, BGR (H, W, 3), with a box, name and score for each detection.

    A reduced image is enlarged to the size that the boxes refer to. Line width and font size are
    proportional to the image's size. Detections with the highest scores are drawn last, on top.
    """
    canvas = image.resized(image.width, image.height, "bgr")
    unit = line_width(image)
    for i in reversed(range(len(detections))):
        label = int(detections.labels[i])
        text = caption(classes[label], detections.scores[i])
        outline(canvas, detections.boxes[i], text, class_colour(label), unit)
    return canvas


class AnnotatedFrame:
    """An image with its detections, drawn and encoded when first asked for, and at most once.

    Args:
        image, detections, classes: see `annotate`.
    """

    def __init__(self, image: Image, detections: Detections, classes: Sequence[str]) -> None:
        self._content = image, detections, classes
        self._canvas: np.ndarray | None = None
        self._jpeg: np.ndarray | None = None

    def canvas(self) -> np.ndarray:
        """See `annotate`."""
        if self._canvas is None:
            self._canvas = annotate(*self._content)
        return self._canvas

    def jpeg(self) -> np.ndarray:
        """The drawn image as a JPEG: uint8 (N,).

        Raises:
            ImageError: the image is too large for the format.
        """
        if self._jpeg is None:
            canvas = self.canvas()
            height, width = canvas.shape[:2]
            if max(height, width) > MAX_JPEG_SIDE:
                raise ImageError(f"{width}x{height} is too large for JPEG: {MAX_JPEG_SIDE} a side")
            quality = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
            self._jpeg = cv2.imencode(".jpg", canvas, quality)[1]
        return self._jpeg


def line_width(image: Image) -> int:
    """Width of the lines in pixels, by which fonts are scaled, too."""
    return max(1, round(min(image.width, image.height) / 240))


def outline(
    canvas: np.ndarray, box: np.ndarray, text: str, colour: tuple[int, int, int], unit: int = 1
) -> None:
    """Draws a box (x1 y1 x2 y2, pixels) and its text on a BGR image, with lines `unit` wide."""
    x1, y1, x2, y2 = box.round().astype(int).tolist()
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, unit)
    _label(canvas, text, (x1, y1), colour, unit)


def caption(name: str, score: float) -> str:
    """The text of a detection, the same in images and markers."""
    return f"{name} {score:.2f}"


@cache
def drawable(text: str, unicode_font: bool = _UNICODE) -> str:
    """The text in characters that OpenCV draws; only that in the image changes.

    Args:
        unicode_font: false for OpenCV 4, which draws ASCII: Latin letters lose their marks, others
            become their escape sequence (`\\u732b`), so that different names stay different.
    """
    text = printable(text)
    if unicode_font or text.isascii():
        return text
    letters = unicodedata.normalize("NFC", text).translate(_LATIN)
    return "".join(map(_in_ascii, letters))


def _in_ascii(letter: str) -> str:
    parts = unicodedata.normalize("NFKD", letter)
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    return (plain if plain.isascii() else letter).encode("ascii", "backslashreplace").decode()


@cache
def class_colour(label: int) -> tuple[int, int, int]:
    """A colour (BGR) for a class; consecutive labels get clearly different colours."""
    hue = label * 0.618034 % 1.0  # steps of the golden ratio spread evenly, however many there are
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return round(255 * blue), round(255 * green), round(255 * red)


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever is readable on a background; all BGR."""
    return (0, 0, 0) if sum(background) > 380 else (255, 255, 255)


def _label(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int], unit: int
) -> None:
    """Text on a filled background above a box's upper left corner, or inside it at the top edge."""
    text = drawable(text)
    (width, height), baseline = cv2.getTextSize(text, _FONT, 0.4 * unit, unit)
    x, y = max(0, min(corner[0], canvas.shape[1] - width)), corner[1]
    top = y - height - baseline if y >= height + baseline else y
    cv2.rectangle(canvas, (x, top), (x + width, top + height + baseline), colour, cv2.FILLED)
    ink = text_colour(colour)
    cv2.putText(canvas, text, (x, top + height), _FONT, 0.4 * unit, ink, unit, cv2.LINE_AA)
