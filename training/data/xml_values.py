# SPDX-License-Identifier: Apache-2.0
"""Numbers in VOC annotations, for all that read them."""

from __future__ import annotations

import math
from xml.etree import ElementTree


def number(node: ElementTree.Element, tag: str) -> float:
    """The finite number in a descendant.

    Raises:
        ValueError: there is none; the message names the tag.
    """
    return to_number(tag, node.findtext(tag))


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
