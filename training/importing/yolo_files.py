# SPDX-License-Identifier: Apache-2.0
"""YOLO text files: a line for each object, with fractions of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssd_ros.io import image_files
from training.data import text_files
from training.data.voc_xml import VOCObject
from training.importing.files import SourceFiles, read_lines
from training.importing.labels import DatasetImportError, LabelledImage, Labels
from training.importing.shapes import enclose_points

_NAMES_FILES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
_LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt", *_NAMES_FILES)


@dataclass(frozen=True)
class YOLOFiles:
    """The files of a YOLO dataset.

    Attributes:
        labels: text file of each labelled image.
        names: class names by number, None where no file names them.
        keypoints: whether key points follow the boxes.
        lost: label files without an image of their own, each with the reason.
    """

    labels: dict[Path, Path]
    names: dict[int, str] | None
    keypoints: bool
    lost: tuple[str, ...]


def find(source: SourceFiles) -> YOLOFiles | None:
    """The label files of a folder: text files of numbers with an image of their name."""
    found: dict[Path, Path] = {}
    lost = []
    for path in source.with_suffix(".txt"):
        if path.name in _LISTS or not _has_labels(path):
            continue
        relative = path.relative_to(source.root)
        folders = ["images" if part == "labels" else part for part in relative.parts[:-1]]
        try:
            image = source.find_image(path, "/".join((*folders, path.stem)))
            if image is None:
                raise ValueError("has no image of its name")
            if image in found:
                raise ValueError(f"is for '{image}', as '{found[image]}' is")
        except ValueError as error:
            count = sum(bool(line.strip()) for line in read_lines(path))
            lost.append(f"'{path}' {error}; it has {count} objects")
        else:
            found[image] = path
    if not found:
        return None
    names, keypoints = _names(source)
    return YOLOFiles(found, names, keypoints, tuple(lost))


def _has_labels(path: Path) -> bool:
    """Whether a file is empty, or each line has a class and four numbers or more in the first."""
    try:
        lines = [line.split() for line in read_lines(path) if line.strip()]
        for line in lines:
            for word in line:
                float(word)
    except ValueError:
        return False
    return not lines or len(lines[0]) > 4


def _names(source: SourceFiles) -> tuple[dict[int, str] | None, bool]:
    for path in source.with_suffix(".yaml", ".yml"):
        try:
            document = yaml.safe_load(text_files.read_text(path))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(document, dict) and document.get("names"):
            return _numbered(document["names"], path), "kpt_shape" in document
    for path in source.files:
        if path.name in _NAMES_FILES or path.suffix == ".names":
            lines = read_lines(path)
            return {i: line.strip() for i, line in enumerate(lines) if line.strip()}, False
    return None, False


def _numbered(names: Any, path: Path) -> dict[int, str]:
    items = names.items() if isinstance(names, dict) else enumerate(names)
    try:
        return {int(number): str(name).strip() for number, name in items}
    except (TypeError, ValueError):
        raise DatasetImportError(
            f"'{path}': names must be a list or numbers with names, got {names!r}"
        ) from None


def read(source: SourceFiles, found: YOLOFiles) -> Labels:
    """The images and objects; an image without a label file is background, as YOLO defines it.

    Raises:
        DatasetImportError: there are no class names.
    """
    if not found.names:
        raise DatasetImportError(
            f"'{source.root}' has YOLO labels but no class names: expected a YAML file with "
            f"'names', or one of {', '.join(_NAMES_FILES)}"
        )
    labels = Labels(dropped_files=list(found.lost))
    for image in source.images:
        try:
            size = image_files.read_size(image)
        except ValueError as error:
            labels.dropped_files.append(str(error))
            continue
        path = found.labels.get(image)
        if path is None:
            labels.notes["images without a label file are background"] += 1
            labels.images.append(LabelledImage(image, image, size, ()))
            continue
        objects = []
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            try:
                objects.append(_object(line.split(), size, found, labels))
            except ValueError as error:
                labels.dropped_objects.append(f"'{path}', line {number}: {error}")
        labels.images.append(LabelledImage(image, path, size, tuple(objects)))
    return labels


def _object(words: list[str], size: tuple[int, int], found: YOLOFiles, labels: Labels) -> VOCObject:
    number, values = float(words[0]), [float(word) for word in words[1:]]
    name = (found.names or {}).get(int(number)) if math.isfinite(number) else None
    if not name or number != int(number):
        known = sorted(found.names or {})
        raise ValueError(f"class {words[0]} has no name, expected {known[0]} to {known[-1]}")
    if not all(math.isfinite(value) and -1 <= value <= 2 for value in values):
        raise ValueError(f"expected fractions of the image, 0 to 1, got {' '.join(words[1:])}")
    if found.keypoints:
        values = values[:4]
    if len(values) == 5:
        labels.converted["objects lost their confidence"] += 1
        values = values[:4]
    if len(values) == 4:
        x, y, width, height = values
        corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    else:
        corners = enclose_points(values)
        labels.converted["polygons and rotated boxes became their enclosing boxes"] += 1
    x1, y1, x2, y2 = (value * side for value, side in zip(corners, (*size, *size), strict=True))
    return VOCObject(name, (_snapped(x1), _snapped(y1), _snapped(x2), _snapped(y2)))


def _snapped(value: float) -> float:
    """Fractions are written with about six digits: a border of the image must not be exceeded."""
    return round(value) if abs(value - round(value)) < 0.02 else value
