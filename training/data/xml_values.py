# SPDX-License-Identifier: Apache-2.0
"""Numbers in VOC annotations, for all that read them."""

from __future__ import annotations

import math
from xml.etree import ElementTree

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = {
    **dict.fromkeys(("", "0", "0.0", "false", "no", "unspecified"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
}


def single(node: ElementTree.Element, tag: str) -> str | None:
    """The text of the only descendant with a tag, None without one.

    Raises:
        ValueError: there are several, of which all but one would be lost.
    """
    if len(found := node.findall(tag)) > 1:
        raise ValueError(f"has {len(found)} {tag}, expected one")
    return found[0].text if found else None


def class_name(node: ElementTree.Element) -> str:
    """The class of an object.

    Raises:
        ValueError: there is none, or several.
    """
    name = (single(node, "name") or "").strip()
    if not name:
        raise ValueError("has no name")
    return name


def flag(node: ElementTree.Element, tag: str) -> bool:
    """Whether a descendant says yes; without one it does not.

    Raises:
        ValueError: it says neither yes nor no, or there are several.
    """
    text = (single(node, tag) or "").strip().lower()
    if text not in _FLAGS:
        raise ValueError(f"{tag} must be 0 or 1, got {text!r}")
    return _FLAGS[text]


def corners(node: ElementTree.Element, path: str = "") -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax of a box, as written.

    Args:
        path: of the box below the node, with a slash at its end.

    Raises:
        ValueError: one of them is missing or repeated, or they are fractions of the image.
    """
    x1, y1, x2, y2 = (number(node, path + tag) for tag in CORNERS)
    if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 and (x1, y1, x2, y2) != (0, 0, 1, 1):
        raise ValueError(f"bndbox must be in pixels, got fractions {[x1, y1, x2, y2]}")
    return x1, y1, x2, y2


def number(node: ElementTree.Element, tag: str) -> float:
    """The finite number in a descendant.

    Raises:
        ValueError: there is none, or several; the message names the tag.
    """
    return to_number(tag, single(node, tag))


def to_number(tag: str, text: str | None) -> float:
    """The finite number that a text is; the same errors as `number`."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{tag} must be a number, got {text!r}")
    return value


def stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Width and height of the image by its annotation; None where it states none."""
    try:
        size = int(number(root, "size/width")), int(number(root, "size/height"))
    except ValueError:
        return None
    return size if min(size) > 0 else None  # some tools write zeros
