# SPDX-License-Identifier: Apache-2.0
"""VOC XML files in any layout: beside the images, in folders of their own, in subfolders."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from training.data import text_files, xml_values
from training.data.voc_xml import VOCObject
from training.importing.files import SourceFiles
from training.importing.labels import LabelledImage, Labels
from training.importing.shapes import Box, enclose_boxes, enclose_points, enclose_rotated

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find(source: SourceFiles) -> dict[Path, ElementTree.Element | str]:
    """The VOC XML files of a folder, parsed, or why one cannot be; empty without any."""
    found: dict[Path, ElementTree.Element | str] = {}
    for path in source.with_suffix(".xml"):
        try:
            root = text_files.parse_xml(path)
        except OSError as error:
            found[path] = f"'{path}' cannot be read: {error.strerror}"
        except ValueError as error:
            found[path] = f"'{path}' {error}"
        else:
            for node in root.iter():  # some tools write a namespace, or other capitals
                node.tag = node.tag.rpartition("}")[2].lower()
            if root.tag == "annotation":
                found[path] = root
    return found if any(isinstance(root, ElementTree.Element) for root in found.values()) else {}


def read(source: SourceFiles, found: dict[Path, ElementTree.Element | str]) -> Labels:
    """The images and objects of these files; images without one are not imported."""
    labels, used = Labels(), dict[Path, Path]()
    for path, root in found.items():
        if isinstance(root, str):
            labels.dropped_files.append(root)
            continue
        objects = _objects(path, root, labels)
        name = (root.findtext("filename") or "").strip()
        try:
            image = _find_image(source, path, name)
            if image is None:
                raise ValueError(
                    f"has no image '{path.stem}.*'" + (f" or '{name}'" if name else "")
                )
            if image in used:
                raise ValueError(f"is for '{image}', as '{used[image]}' is")
        except ValueError as error:
            count = len(objects)
            labels.dropped_files.append(f"'{path}' {error}; it has {count} readable objects")
            continue
        used[image] = path
        labels.images.append(
            LabelledImage(image, path, xml_values.stated_size(root), tuple(objects))
        )
    labels.unlabelled = [image for image in source.images if image not in used]
    return labels


def _find_image(source: SourceFiles, path: Path, name: str) -> Path | None:
    """The image with the name of the XML file counts before the one that it names: copies of an
    annotation often keep the name of another image. With equal names the suffix counts, too.
    """
    if PurePosixPath(name.replace("\\", "/")).stem == path.stem:
        return source.find_image(path, name)
    return source.find_image(path, path.stem, *([name] if name else []))


def _objects(path: Path, root: ElementTree.Element, labels: Labels) -> list[VOCObject]:
    objects = []
    for number, node in enumerate(root.iter("object"), start=1):
        try:
            name = (node.findtext("name") or "").strip()
            if not name:
                raise ValueError("has no name")
            if len(node.findall("name")) > 1:
                raise ValueError(f"has {len(node.findall('name'))} names, expected one")
            x1, y1, x2, y2 = _box(node, labels.converted)
        except ValueError as error:
            labels.dropped_objects.append(f"'{path}', object {number}: {error}")
            continue
        flags = [_flag(node, tag) for tag in ("difficult", "truncated")]
        objects.append(VOCObject(name, (x1 - 1, y1 - 1, x2, y2), *flags))
    return objects


def _box(node: ElementTree.Element, converted: Counter[str]) -> Box:
    """The corners of an object as VOC counts them."""
    boxes = [_corners(box) for box in node.findall("bndbox")]
    if len(boxes) > 1:
        converted["objects with several boxes became one enclosing box"] += 1
        return enclose_boxes(boxes)
    if boxes:
        degrees = _rotation(node)
        if degrees % 360:
            converted["rotated boxes became their enclosing boxes"] += 1
            return enclose_rotated(boxes[0], degrees)
        return boxes[0]
    rotated = node.find("robndbox")
    if rotated is not None:
        x, y, width, height, radians = (
            xml_values.number(rotated, t) for t in ("cx", "cy", "w", "h", "angle")
        )
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        converted["rotated boxes became their enclosing boxes"] += 1
        return enclose_rotated(box, math.degrees(radians))
    polygon = node.find("polygon")
    if polygon is None:
        raise ValueError("has neither bndbox nor polygon")
    converted["polygons became their enclosing boxes"] += 1
    # <x1>, <y1>, <x2>, … in one node, or a node for each point.
    return enclose_points(
        [xml_values.to_number(n.tag, n.text) for n in polygon.iter() if n.tag[:1] in ("x", "y")]
    )


def _corners(box: ElementTree.Element) -> Box:
    x1, y1, x2, y2 = (xml_values.number(box, tag) for tag in CORNERS)
    return x1, y1, x2, y2


def _rotation(node: ElementTree.Element) -> float:
    """Degrees, from the attribute that CVAT writes."""
    for attribute in node.findall("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            return xml_values.number(attribute, "value")
    return 0.0


def _flag(node: ElementTree.Element, tag: str) -> bool:
    return (node.findtext(tag) or "").strip().lower() not in ("", "0", "0.0", "false", "no")
