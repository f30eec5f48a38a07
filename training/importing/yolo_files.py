# SPDX-License-Identifier: Apache-2.0
"""YOLO text files: a line for each object, with fractions of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd_ros.io import image_files
from training.data.exif_view import stored_size
from training.data.voc_xml import VOCObject
from training.importing.files import (
    AmbiguousImageError,
    Match,
    SourceFiles,
    choose,
    read_lines,
    read_yaml,
)
from training.importing.labels import DatasetImportError, LabelledImage, Labels
from training.importing.shapes import enclose_points

# In this order: labelImg has its default classes in the last one, whatever was labelled.
_NAMES_FILES = ("obj.names", "classes.txt", "labels.txt", "predefined_classes.txt")
_OTHERS = ("train.txt", "val.txt", "valid.txt", "test.txt", *_NAMES_FILES)


@dataclass(frozen=True)
class YOLOFiles:
    """The files of a YOLO dataset.

    Attributes:
        labels: text file of each labelled image.
        names: class names by number, None where no file names them.
        keypoints: whether key points follow the boxes.
        unknown: images that may have objects, in files that cannot be read or assigned.
    """

    labels: dict[Path, Path]
    names: dict[int, str] | None
    keypoints: bool
    unknown: frozenset[Path]


def find(source: SourceFiles) -> tuple[YOLOFiles | None, list[str]]:
    """The label files of a folder, and why others that may be some are none.

    These are text files with the name of an image, whatever is in them: what cannot be read there
    is named with its line. A folder without any line of numbers is not YOLO's.

    Raises:
        DatasetImportError: files of class names contradict each other.
    """
    matches, unknown = dict[Path, Match](), set[Path]()
    counts: dict[Path, int] = {}
    problems = []
    for path in source.with_suffix(".txt"):
        try:
            counts[path], problem = _count_objects(path), ""
        except DatasetImportError as error:
            counts[path], problem = 0, str(error)
        if path.name in _OTHERS and not counts[path]:
            continue
        try:
            match = _match(source, path)
        except AmbiguousImageError as error:
            unknown.update(error.images)
            problems.append(problem or f"'{path}' {error}; it has {counts[path]} objects")
            continue
        if match and not problem:
            matches[path] = match
        elif match:
            unknown.add(match.image)
            problems.append(problem)
        elif counts[path]:
            problems.append(f"'{path}' has no image of its name; it has {counts[path]} objects")
    if not any(counts.values()):
        return None, problems
    # Of files in equally good folders, those of numbers count before a description in words.
    labels, others = choose(
        {
            path: Match(image, (*fit[:2], counts[path] > 0, *fit[2:]))
            for path, (image, fit) in matches.items()
        }
    )
    problems += [
        f"'{path}' {reason}; it has {counts[path]} objects"
        for path, reason in others.items()
        if counts[path]
    ]
    unknown -= {image for image, path in labels.items() if counts[path]}
    return YOLOFiles(labels, *_names(source), frozenset(unknown)), problems


def _match(source: SourceFiles, path: Path) -> Match | None:
    folders = path.relative_to(source.root).parts[:-1]
    in_images = ["images" if part == "labels" else part for part in folders]
    return source.find_image(path, "/".join((*in_images, path.stem)))


def _count_objects(path: Path) -> int:
    """Lines of a label file; 0 if not all words are numbers, or the first line has less than 5."""
    lines = [line.split() for line in read_lines(path) if line.strip()]
    try:
        for line in lines:
            for word in line:
                float(word)
    except ValueError:
        return 0
    return len(lines) if lines and len(lines[0]) > 4 else 0


def _names(source: SourceFiles) -> tuple[dict[int, str] | None, bool]:
    """Class names by number, and whether there are key points.

    Raises:
        DatasetImportError: two files of the same kind differ.
    """
    found: dict[Path, tuple[dict[int, str], bool]] = {}
    for path in source.with_suffix(".yaml", ".yml"):
        document = read_yaml(path)
        if isinstance(document, dict) and document.get("names"):
            found[path] = _numbered(document["names"], path), "kpt_shape" in document
    for name in () if found else _NAMES_FILES:
        suffix = ".names" if name.endswith(".names") else None
        for path in source.files:
            if path.name == name or path.suffix == suffix:
                lines = [line.strip() for line in read_lines(path)]
                found[path] = {i: line for i, line in enumerate(lines) if line}, False
        if found:
            break
    if not found:
        return None, False
    (first, content), *others = found.items()
    for path, other in others:
        if other != content:
            raise DatasetImportError(_contradiction({first: content[0], path: other[0]}))
    return content


def _contradiction(found: dict[Path, dict[int, str]]) -> str:
    """How two files of class names differ, and what to do about it."""
    (first, names), (second, others) = found.items()
    numbers = sorted(k for k in names | others if names.get(k) != others.get(k))
    how = "differ in kpt_shape"
    if numbers:
        here, there = (
            repr(of[numbers[0]]) if numbers[0] in of else "nothing" for of in (names, others)
        )
        how = f"name different classes (number {numbers[0]} is {here} and {there})"
    fix = (
        "remove the one that is wrong; if each is right for the labels beside it, import their "
        "folders one by one into folders below PARTS, then PARTS itself"
    )
    if first.suffix.lower() in (".yaml", ".yml"):
        fix = "give the file that is right as the source, instead of the folder"
    return f"'{first}' and '{second}' {how}: {fix}"


def _numbered(names: Any, path: Path) -> dict[int, str]:
    try:
        items = names.items() if isinstance(names, dict) else enumerate([*names])
        if isinstance(names, str):
            raise ValueError
        return {int(number): str(name).strip() for number, name in items}
    except (TypeError, ValueError):
        raise DatasetImportError(
            f"'{path}': names must be a list or numbers with names, got {names!r}"
        ) from None


def read(source: SourceFiles, found: YOLOFiles, exif_view: str = "auto") -> Labels:
    """The images and objects; an image without a label file is background, as YOLO defines it.

    Args:
        exif_view: see `training.data.exif_view`: fractions do not tell which view was labelled.

    Raises:
        DatasetImportError: there are no class names.
    """
    if not found.names:
        raise DatasetImportError(
            f"'{source.root}' has YOLO labels but no class names: expected a YAML file with "
            f"'names', or one of {', '.join(_NAMES_FILES)}"
        )
    labels = Labels()
    for image in source.images:
        if image in found.unknown:
            continue
        path = found.labels.get(image)
        try:
            size = _labelled_size(image, exif_view, labels)
        except ValueError as error:
            count = len([line for line in read_lines(path) if line.strip()]) if path else 0
            labels.dropped_files.append(f"{error}; it has {count} objects")
            continue
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


def _labelled_size(image: Path, exif_view: str, labels: Labels) -> tuple[int, int]:
    """Width and height of the view of an image that was labelled."""
    size, orientation = image_files.read_view(image)
    if orientation == 1:
        return size
    if exif_view == "auto":
        labels.notes[
            "images are turned by their EXIF orientation; taken as labelled upright, "
            "--exif-view stored turns their boxes"
        ] += 1
    return stored_size(orientation, size) if exif_view == "stored" else size


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
        corners = enclose_points(values[::2], values[1::2])
        labels.converted["polygons and rotated boxes became their enclosing boxes"] += 1
    x1, y1, x2, y2 = (value * side for value, side in zip(corners, (*size, *size), strict=True))
    return VOCObject(name, (_snapped(x1), _snapped(y1), _snapped(x2), _snapped(y2)))


def _snapped(value: float) -> float:
    """Fractions are written with about six digits: a border of the image must not be exceeded."""
    return round(value) if abs(value - round(value)) < 0.02 else value
