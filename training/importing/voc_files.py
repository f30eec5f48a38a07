# SPDX-License-Identifier: Apache-2.0
"""VOC XML files in any layout: beside the images, in folders of their own, in subfolders."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from training.data import text_files, xml_values
from training.data.image_sets import composed
from training.data.voc_xml import VOCObject
from training.importing.files import Match, SourceFiles, choose
from training.importing.labels import LabelledImage, Labels
from training.importing.shapes import Box, enclose_boxes, enclose_points, enclose_rotated

_OBJECTS = ("object", "box", "bndbox", "polygon", "annotation")


def find(source: SourceFiles) -> tuple[dict[Path, ElementTree.Element], list[str]]:
    """The VOC XML files of a folder, parsed; and why others with objects cannot be read."""
    found, problems = {}, []
    for path in source.with_suffix(".xml"):
        try:
            root = text_files.parse_xml(path)
        except OSError as error:
            problems.append(f"'{path}' cannot be read: {error.strerror}")
            continue
        except ValueError as error:
            problems.append(f"'{path}' {error}")
            continue
        for node in root.iter():  # some tools write a namespace, or other capitals
            node.tag = node.tag.rpartition("}")[2].lower()
        if root.tag == "annotation":
            found[path] = root
        elif any(node.tag in _OBJECTS for node in root.iter()):
            problems.append(f"'{path}' is a <{root.tag}>, expected an <annotation>")
    return found, problems


def read(source: SourceFiles, found: dict[Path, ElementTree.Element]) -> Labels:
    """The images and objects of these files; images without one are not imported."""
    labels = Labels()
    objects = {path: _objects(path, root, labels) for path, root in found.items()}
    matches, reasons = dict[Path, Match](), dict[Path, str]()
    for path, root in found.items():
        try:
            matches[path] = _find_image(source, path, (root.findtext("filename") or "").strip())
        except ValueError as error:
            reasons[path] = str(error)
    annotations, others = choose(matches)
    labels.dropped_files += [
        f"'{path}' {reason}; it has {len(objects[path])} readable objects"
        for path, reason in {**reasons, **others}.items()
    ]
    labels.images = [
        LabelledImage(image, path, xml_values.stated_size(found[path]), tuple(objects[path]))
        for image, path in annotations.items()
    ]
    labels.unlabelled = [image for image in source.images if image not in annotations]
    return labels


def _find_image(source: SourceFiles, path: Path, name: str) -> Match:
    """The image with the name of the XML file counts before the one that it names: copies of an
    annotation often keep the name of another image. With equal names the suffix counts, too.
    """
    if composed(PurePosixPath(name.replace("\\", "/")).stem) == composed(path.stem):
        found = source.find_image(path, name)
    else:
        found = source.find_image(path, path.stem, *([name] if name else []))
    if found is None:
        raise ValueError(f"has no image '{path.stem}.*'" + (f" or '{name}'" if name else ""))
    return found


def _objects(path: Path, root: ElementTree.Element, labels: Labels) -> list[VOCObject]:
    objects = []
    for number, node in enumerate(root.iter("object"), start=1):
        try:
            if xml_values.flag(node, "deleted"):
                labels.notes["objects that are marked as deleted were ignored"] += 1
                continue
            name = xml_values.class_name(node)
            x1, y1, x2, y2 = _box(node, labels.converted)
            difficult = xml_values.flag(node, "difficult")
        except ValueError as error:
            labels.dropped_objects.append(f"'{path}', object {number}: {error}")
            continue
        truncated = (node.findtext("truncated") or "").strip().lower() in ("1", "true", "yes")
        objects.append(VOCObject(name, (x1 - 1, y1 - 1, x2, y2), difficult, truncated))
    return objects


def _box(node: ElementTree.Element, converted: Counter[str]) -> Box:
    """The corners of an object as VOC counts them."""
    boxes = [xml_values.corners(box) for box in node.findall("bndbox")]
    if len(boxes) > 1:
        converted["objects with several boxes became one enclosing box"] += 1
        return enclose_boxes(boxes)
    if boxes:
        degrees = _rotation(node)
        if degrees % 360:
            converted["rotated boxes became their enclosing boxes"] += 1
            return enclose_rotated(boxes[0], degrees)
        return boxes[0]
    if rotated := [_rotated(box) for box in node.findall("robndbox")]:
        converted["rotated boxes became their enclosing boxes"] += 1
        return enclose_boxes(rotated)
    if not (polygons := node.findall("polygon")):
        raise ValueError("has neither bndbox nor polygon")
    converted["polygons became their enclosing boxes"] += 1
    # <x1>, <y1>, <x2>, … in one node, or a node for each point.
    xs, ys = (
        [
            xml_values.to_number(point.tag, point.text)
            for polygon in polygons
            for point in polygon.iter()
            if re.fullmatch(rf"{axis}\d*", point.tag)
        ]
        for axis in "xy"
    )
    return enclose_points(xs, ys)


def _rotated(box: ElementTree.Element) -> Box:
    x, y, width, height, radians = (
        xml_values.number(box, tag) for tag in ("cx", "cy", "w", "h", "angle")
    )
    upright = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return enclose_rotated(upright, math.degrees(radians))


def _rotation(node: ElementTree.Element) -> float:
    """Degrees, from the attribute that CVAT writes."""
    for attribute in node.findall("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            return xml_values.number(attribute, "value")
    return 0.0
