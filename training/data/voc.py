# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC datasets: annotations, image sets, classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssd_ros.model import class_names
from training.data import image_sets, text_files, xml_values
from training.data.voc_error import VOCError as VOCError


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
        numbers: int64 (N,), of the objects in the file, from 1.
        ignored: classes of the objects that are left out, see `only`.
    """

    image_id: str
    size: tuple[int, int] | None
    names: tuple[str, ...]
    boxes: np.ndarray
    difficult: np.ndarray
    numbers: np.ndarray
    ignored: tuple[str, ...] = ()

    def only(self, classes: Collection[str]) -> Annotation:
        """The objects of some classes; the others are `ignored`."""
        kept = np.array([name in classes for name in self.names], bool)
        return replace(
            self,
            names=tuple(name for name in self.names if name in classes),
            boxes=self.boxes[kept],
            difficult=self.difficult[kept],
            numbers=self.numbers[kept],
            ignored=tuple(name for name in self.names if name not in classes),
        )


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
        VOCError: the file cannot be read, is no annotation in XML, or an object lacks or
            repeats its name, its box or a number.
    """
    try:
        root = text_files.parse_xml(path)
    except OSError as error:
        raise VOCError(f"annotation '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise VOCError(f"annotation '{path}' {error}") from None
    for node in root.iter():  # some tools write a namespace, or other capitals
        node.tag = node.tag.rpartition("}")[2].lower()
    if root.tag != "annotation":
        raise VOCError(f"annotation '{path}' is a <{root.tag}>, expected an <annotation>")
    names, boxes, difficult = [], [], []
    for number, node in enumerate(root.iter("object"), start=1):
        try:
            name = xml_values.class_name(node)
            xml_values.single(node, "bndbox")
            x1, y1, x2, y2 = xml_values.corners(node, "bndbox/")
            difficult.append(xml_values.flag(node, "difficult"))
        except ValueError as error:
            raise VOCError(f"annotation '{path}', object {number}: {error}") from None
        names.append(name)
        boxes.append((x1 - 1, y1 - 1, x2, y2))
    return Annotation(
        path.stem,
        xml_values.stated_size(root),
        tuple(names),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(difficult, bool),
        np.arange(1, len(names) + 1),
    )


# --- folders ------------------------------------------------------------------------------------


def find_images(root: Path, names: str) -> list[ImageRecord]:
    """The images of some image sets, in the order of the files.

    Args:
        root: a VOC-format folder (Annotations/ JPEGImages/ ImageSets/Main/), or the development
            kit (VOCdevkit, or a folder that holds it) with its VOC2007 and VOC2012.
        names: of the sets, joined by `+`: `trainval`; for the kit with the year,
            `2007_trainval+2012_trainval`.

    Raises:
        VOCError: a folder, set or image is missing, two files have the same name but for the
            suffix, or the sets are empty.
    """
    records = []
    for name in names.split("+"):
        folder, image_set = _locate(root, name.strip())
        images, annotations = image_sets.find_pairs(folder)
        path = folder / "ImageSets" / "Main" / f"{image_set}.txt"
        for text, image_id in image_sets.read(path, images):
            if image_id is None:
                raise VOCError(
                    f"image set '{path}' names '{text}', but '{folder / 'JPEGImages'}' has no such "
                    "image"
                )
            image = _only(images[image_id])
            name_on_disk = image.relative_to(folder / "JPEGImages").with_suffix("").as_posix()
            missing = folder / "Annotations" / f"{name_on_disk}.xml"
            annotation = _only(annotations.get(image_id, [missing]))
            records.append(ImageRecord(name_on_disk, image, annotation))
    if not records:
        raise VOCError(f"image set '{names}' of '{root}' is empty")
    return records


def choose_images(records: Sequence[ImageRecord], count: int, seed: int) -> list[Path]:
    """Image files of an image set, chosen at random and in random order.

    Args:
        records: the image set.
        count: how many, or all where there are fewer.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(records))
    return [records[i].image for i in order[:count]]


def _only(files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise VOCError(f"'{files[0]}' and '{files[1].name}' have the same name; remove one of them")
    return files[0]


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
