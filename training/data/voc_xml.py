# SPDX-License-Identifier: Apache-2.0
"""Writes PASCAL VOC annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree


@dataclass(frozen=True)
class VOCObject:
    """One object of an annotation.

    Attributes:
        name: class.
        box: x1 y1 x2 y2 in pixels, continuous, without limits: what is wrong stays to be checked.
        difficult: ignored in evaluation.
        truncated: partly outside the image or hidden.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False


def annotation(file_name: str, size: tuple[int, int] | None, objects: Sequence[VOCObject]) -> bytes:
    """A VOC XML file; pixels count from 1 and both corners belong to the box.

    Args:
        file_name: of the image.
        size: its width and height, None where they are not known.
        objects: what is in the image.
    """
    root = ElementTree.Element("annotation")
    _add(root, "filename", file_name)
    if size is not None:
        node = ElementTree.SubElement(root, "size")
        for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
            _add(node, tag, value)
    for item in objects:
        node = ElementTree.SubElement(root, "object")
        _add(node, "name", item.name)
        _add(node, "truncated", int(item.truncated))
        _add(node, "difficult", int(item.difficult))
        box = ElementTree.SubElement(node, "bndbox")
        x1, y1, x2, y2 = item.box
        for tag, side in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(box, tag, f"{side:.12g}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8")


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)
