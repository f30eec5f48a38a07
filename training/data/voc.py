# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC datasets: annotations, image sets, classes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ssd_ros.io import image_files
from ssd_ros.model import class_names
from training.data import text_files


class VOCError(ValueError):
    """A dataset that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Annotation:
    """The content of one VOC XML file.

    Attributes:
        image_id: name of the file without `.xml`.
        size: width and height in pixels, None where the file does not state them.
        names: class of each object.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels, continuous, as written in the file: they may
            be empty or lie outside the image (see `boxes.clip_and_validate`).
        difficult: bool (N,).
    """

    image_id: str
    size: tuple[int, int] | None
    names: tuple[str, ...]
    boxes: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class ImageRecord:
    """Where one image of an image set and its annotation are; neither is read yet."""

    image_id: str
    image: Path
    annotation: Path


def read_annotation(path: Path) -> Annotation:
    """Reads a VOC XML file.

    VOC counts pixels from 1 and a box contains both its corner pixels: subtracting 1 from xmin and
    ymin alone makes corners in continuous coordinates.

    Raises:
        VOCError: the file cannot be read, is not XML, or an object lacks a name or a number.
    """
    try:
        root = text_files.parse_xml(path)
    except OSError as error:
        raise VOCError(f"annotation '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise VOCError(f"annotation '{path}' {error}") from None
    names, boxes, difficult = [], [], []
    for number, node in enumerate(root.findall("object"), start=1):
        try:
            name = (node.findtext("name") or "").strip()
            if not name:
                raise ValueError("has no name")
            corners = [_number(node, f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
            difficult.append((node.findtext("difficult") or "0").strip() not in ("", "0"))
        except ValueError as error:
            raise VOCError(f"annotation '{path}', object {number}: {error}") from None
        names.append(name)
        boxes.append((corners[0] - 1, corners[1] - 1, corners[2], corners[3]))
    return Annotation(
        path.stem,
        _size(root),
        tuple(names),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(difficult, bool),
    )


def _number(node: ElementTree.Element, tag: str) -> float:
    text = node.findtext(tag)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{tag} must be a number, got {text!r}")
    return value


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        size = int(_number(root, "size/width")), int(_number(root, "size/height"))
    except ValueError:
        return None
    return size if min(size) > 0 else None  # some tools write zeros


# --- folders ------------------------------------------------------------------------------------


def find_images(root: Path, image_sets: str) -> list[ImageRecord]:
    """The images of some image sets, in the order of the files.

    Args:
        root: a VOC-format folder (Annotations/ JPEGImages/ ImageSets/Main/), or the development
            kit (VOCdevkit, or a folder that holds it) with its VOC2007 and VOC2012.
        image_sets: names joined by `+`: `trainval`; for the kit with the year,
            `2007_trainval+2012_trainval`.

    Raises:
        VOCError: a folder, set or image is missing, or the sets are empty.
    """
    records = []
    for name in image_sets.split("+"):
        folder, image_set = _locate(root, name.strip())
        images = {
            path.stem: path
            for path in sorted((folder / "JPEGImages").iterdir(), reverse=True)
            if path.suffix.lower() in image_files.SUFFIXES
        }
        for image_id in read_image_set(folder / "ImageSets" / "Main" / f"{image_set}.txt"):
            if image_id not in images:
                raise VOCError(
                    f"image set '{folder / 'ImageSets' / 'Main' / image_set}.txt' names "
                    f"'{image_id}', but '{folder / 'JPEGImages'}' has no such image"
                )
            annotation = folder / "Annotations" / f"{image_id}.xml"
            records.append(ImageRecord(image_id, images[image_id], annotation))
    if not records:
        raise VOCError(f"image set '{image_sets}' of '{root}' is empty")
    return records


def read_image_set(path: Path) -> list[str]:
    """Image ids of an `ImageSets/Main` file: the first word of each line.

    Raises:
        VOCError: the file is missing, or no text; the message lists the available sets.
    """
    try:
        lines = text_files.read_text(path).splitlines()
    except ValueError as error:
        raise VOCError(f"image set '{path}' {error}") from None
    except OSError:
        available = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise VOCError(f"image set '{path}' not found; available: {available}") from None
    return [line.split()[0] for line in lines if line.strip()]


def _locate(root: Path, name: str) -> tuple[Path, str]:
    """The VOC-format folder and the plain name of an image set."""
    if (root / "Annotations").is_dir():
        folder, image_set = root, name
    else:
        year, _, image_set = name.partition("_")
        choices = [root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}"]
        folder = next((path for path in choices if path.is_dir()), choices[0])
        if not image_set or not (folder / "Annotations").is_dir():
            raise VOCError(
                f"'{root}' is not a VOC-format folder (no Annotations/), and image set '{name}' "
                f"is not one of a development kit there (expected YEAR_SET and '{choices[0]}')"
                f"{import_hint(root)}"
            )
    for part in ("Annotations", "JPEGImages"):
        if not (folder / part).is_dir():
            raise VOCError(f"'{folder}' has no folder {part}/{import_hint(root)}")
    return folder, image_set


def import_hint(root: Path) -> str:
    """What to do with a folder of another layout or format, as the end of an error."""
    return f"; other formats and layouts: python -m training.voc import '{root}' NEW_FOLDER"


def find_classes(annotations: Iterable[Annotation]) -> tuple[str, ...]:
    """Names of all classes: in VOC's order for VOC, else sorted."""
    names = {name for annotation in annotations for name in annotation.names}
    if names and names <= set(class_names.VOC):
        # All twenty where half are seen: a small set with a cat and a dog gets two outputs.
        if len(names) > len(class_names.VOC) // 2:
            return tuple(class_names.VOC)
        return tuple(name for name in class_names.VOC if name in names)
    return tuple(sorted(names))
