# SPDX-License-Identifier: Apache-2.0
"""COCO JSON files of object detection."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from training.data.voc_xml import VOCObject
from training.importing.files import SourceFiles
from training.importing.labels import DatasetImportError, LabelledImage, Labels
from training.importing.shapes import Box, enclose_points, enclose_rotated

Document = dict[str, Any]
_LISTS = ("images", "annotations", "categories")


def find(source: SourceFiles) -> tuple[dict[Path, Document], list[str]]:
    """The COCO JSON files of a folder, parsed; and why others that may be some are none."""
    found, problems = {}, []
    for path in source.with_suffix(".json"):
        try:
            document = json.loads(path.read_bytes())
        except OSError as error:
            problems.append(f"'{path}' cannot be read: {error.strerror}")
            continue
        except (ValueError, RecursionError) as error:
            problems.append(f"'{path}' is not JSON: {error}")
            continue
        if not isinstance(document, dict) or "annotations" not in document:
            continue  # any tool's settings
        missing = [key for key in _LISTS if not isinstance(document.get(key), list)]
        if missing:
            problems.append(f"'{path}' has no list of {' and '.join(missing)}")
        else:
            found[path] = document
    return found, problems


def read(source: SourceFiles, found: dict[Path, Document]) -> Labels:
    """The images and objects of these files; images without an object are background.

    Raises:
        DatasetImportError: two files describe the same image, or one is not as COCO defines it.
    """
    labels, used = Labels(), dict[Path, Path]()
    for path, document in found.items():
        try:
            read_images = _read_document(source, path, document, labels)
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetImportError(
                f"'{path}' is not COCO's object detection format: {type(error).__name__} {error}"
            ) from None
        for image in read_images:
            first = used.setdefault(image.image, path)
            if first != path:
                raise DatasetImportError(
                    f"'{first}' and '{path}' both describe '{image.image}'; import one of the files"
                )
        labels.images += read_images
    labels.unlabelled = [image for image in source.images if image not in used]
    return labels


def _read_document(
    source: SourceFiles, path: Path, document: Document, labels: Labels
) -> list[LabelledImage]:
    names = _by_id(path, document["categories"], "name")
    _by_id(path, document["images"], "file_name")
    objects: dict[Any, list[VOCObject]] = defaultdict(list)
    for number, item in enumerate(document["annotations"], start=1):
        try:
            name = names.get(item["category_id"])
            if not name:
                raise ValueError(f"category {item['category_id']!r} is not in 'categories'")
            box = _box(item, labels)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
            labels.dropped_objects.append(
                f"'{path}', annotation {item.get('id', number)}: {reason}"
            )
            continue
        crowd = str(item.get("iscrowd", 0)).lower() in ("1", "1.0", "true")
        labels.converted["crowd regions became difficult objects"] += crowd
        objects[item.get("image_id")].append(VOCObject(name, box, crowd))
    images = _assign(source, path, document["images"], objects, labels)
    for image_id, rest in objects.items():
        labels.dropped_objects += [
            f"'{path}': object of class '{item.name}' of image {image_id!r}, not in 'images'"
            for item in rest
        ]
    return images


def _assign(
    source: SourceFiles,
    path: Path,
    items: list[Any],
    objects: dict[Any, list[VOCObject]],
    labels: Labels,
) -> list[LabelledImage]:
    """The images with their objects, which are taken out of `objects`."""
    images: dict[Path, LabelledImage] = {}
    named: dict[Path, tuple[tuple[int, ...], str]] = {}
    for item in items:
        contents = tuple(objects.pop(item["id"], ()))
        name = str(item["file_name"]).replace("\\", "/")
        try:
            match = source.find_image(path, name)
            if match is None:
                raise ValueError(f"'{name}' is not below '{source.root}'")
        except ValueError as error:
            labels.dropped_files.append(f"'{path}': image {error}; it has {len(contents)} objects")
            continue
        image, fit = match
        best, first = named.setdefault(image, (fit, name))
        if first == name:  # merged files list an image once for each
            contents = images[image].objects + contents if image in images else contents
        else:  # at least one of them is missing, with an image of the same name elsewhere
            other, others = (first, images[image].objects) if fit > best else (name, contents)
            labels.dropped_files.append(
                f"'{path}': image '{other}' is not below '{source.root}' ('{image}' is "
                f"'{name if other == first else first}'); it has {len(others)} objects"
            )
            if other == name:
                continue
            named[image] = fit, name
        images[image] = LabelledImage(image, path, _size(item), contents)
    return list(images.values())


def _by_id(path: Path, items: list[Any], key: str) -> dict[Any, str]:
    """A text of each item by its id.

    Raises:
        DatasetImportError: two items with one id differ, so that nothing tells which is meant.
    """
    texts: dict[Any, str] = {}
    for item in items:
        text = str(item[key]).strip()
        first = texts.setdefault(item["id"], text)
        if first != text:
            raise DatasetImportError(
                f"'{path}': the id {item['id']!r} is that of '{first}' and of '{text}'"
            )
    return texts


def _box(item: dict[str, Any], labels: Labels) -> Box:
    bbox, segmentation = item.get("bbox"), item.get("segmentation")
    if bbox:
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise ValueError(f"bbox must be four numbers, got {bbox!r}")
        x, y, width, height = map(float, bbox)
        box = x, y, x + width, y + height
    elif isinstance(segmentation, list) and segmentation:
        parts = [[float(value) for value in part] for part in segmentation]
        box = enclose_points(
            [x for p in parts for x in p[::2]], [y for p in parts for y in p[1::2]]
        )
        labels.converted["polygons became their enclosing boxes"] += 1
    else:
        raise ValueError("has neither bbox nor polygons in 'segmentation'")
    degrees = float((item.get("attributes") or {}).get("rotation") or 0)
    if not all(map(math.isfinite, (*box, degrees))):
        raise ValueError(f"bbox must be four numbers, got {bbox!r}")
    if degrees % 360:
        labels.converted["rotated boxes became their enclosing boxes"] += 1
        return enclose_rotated(box, degrees)
    return box


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    try:
        size = int(item["width"]), int(item["height"])
    except (KeyError, TypeError, ValueError):
        return None
    return size if min(size) > 0 else None
