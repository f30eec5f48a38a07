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


def find(source: SourceFiles) -> dict[Path, Document]:
    """The COCO JSON files of a folder, parsed."""
    found = {}
    for path in source.with_suffix(".json"):
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # any tool's settings
        if isinstance(document, dict) and all(
            isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
        ):
            found[path] = document
    return found


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
    names = {item["id"]: str(item["name"]).strip() for item in document["categories"]}
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
        crowd = bool(item.get("iscrowd"))
        labels.converted["crowd regions became difficult objects"] += crowd
        objects[item.get("image_id")].append(VOCObject(name, box, crowd))
    images: dict[Path, LabelledImage] = {}
    for item in document["images"]:
        contents = tuple(objects.pop(item["id"], ()))
        name = str(item["file_name"])
        try:
            image = source.find_image(path, name)
            if image is None:
                raise ValueError(f"'{name}' is not below '{source.root}'")
        except ValueError as error:
            labels.dropped_files.append(f"'{path}': image {error}; it has {len(contents)} objects")
            continue
        if image in images:  # merged files list an image once for each
            contents = images[image].objects + contents
        images[image] = LabelledImage(image, path, _size(item), contents)
    for image_id, rest in objects.items():
        labels.dropped_objects += [
            f"'{path}': object of class '{item.name}' of image {image_id!r}, not in 'images'"
            for item in rest
        ]
    return list(images.values())


def _box(item: dict[str, Any], labels: Labels) -> Box:
    if item.get("bbox"):
        x, y, width, height = map(float, item["bbox"])
        box = x, y, x + width, y + height
    elif isinstance(item.get("segmentation"), list) and item["segmentation"]:
        box = enclose_points([float(v) for part in item["segmentation"] for v in part])
        labels.converted["polygons became their enclosing boxes"] += 1
    else:
        raise ValueError("has neither bbox nor polygons in 'segmentation'")
    degrees = float((item.get("attributes") or {}).get("rotation") or 0)
    if not all(map(math.isfinite, (*box, degrees))):
        raise ValueError(f"bbox must be four numbers, got {item.get('bbox')}")
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
