# SPDX-License-Identifier: Apache-2.0
"""Defects of a VOC-format data set, found before they spoil a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ssd_ros.io import image_files
from training.data.voc import Annotation, VOCError, read_annotation, read_image_set


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        file: where.
        kind: a word or two to count by.
        detail: which object, the value got and the value expected.
    """

    file: Path
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it."""

    pictures: int
    objects: Counter[str]
    defects: list[Defect]


def check(root: Path, classes: Collection[str] | None = None) -> Report:
    """Reads every file of a VOC-format folder, or of every VOC* folder of a development kit.

    Args:
        root: the folder.
        classes: the names expected; None for any.

    Raises:
        VOCError: there is no such folder in root.
    """
    folders = [root] if (root / "Annotations").is_dir() else sorted(root.glob("**/VOC2*"))
    folders = [folder for folder in folders if (folder / "Annotations").is_dir()]
    if not folders:
        raise VOCError(f"'{root}' is not a VOC-format folder: it has no Annotations/")
    reports = [_check_folder(folder, classes) for folder in folders]
    return Report(
        sum(report.pictures for report in reports),
        sum((report.objects for report in reports), Counter()),
        [defect for report in reports for defect in report.defects],
    )


def _check_folder(folder: Path, classes: Collection[str] | None) -> Report:
    annotations = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
    pictures: dict[str, Path] = {}
    defects = []
    image_folder = folder / "JPEGImages"
    for path in sorted(image_folder.iterdir()) if image_folder.is_dir() else ():
        if path.suffix.lower() not in image_files.SUFFIXES:
            continue
        if path.stem in pictures:
            defects.append(
                Defect(path, "duplicate id", f"'{pictures[path.stem].name}' has the same name")
            )
        pictures.setdefault(path.stem, path)

    objects: Counter[str] = Counter()
    for picture_id in tqdm(sorted(annotations), desc=folder.name, unit="file", disable=None):
        path = annotations[picture_id]
        picture = pictures.get(picture_id)
        if picture is None:
            defects.append(Defect(path, "missing picture", f"no JPEGImages/{picture_id}.*"))
        try:
            annotation = read_annotation(path)
        except VOCError as error:
            defects.append(Defect(path, "unreadable annotation", str(error)))
            continue
        objects.update(annotation.names)
        size = annotation.size
        if picture is not None:
            try:
                pixels = image_files.read(picture)
            except ValueError as error:
                defects.append(Defect(picture, "unreadable picture", str(error)))
            else:
                defects += _size_defects(path, size, (pixels.shape[1], pixels.shape[0]))
                size = pixels.shape[1], pixels.shape[0]
        defects += object_defects(path, annotation, size, classes)
    for picture_id in sorted(set(pictures) - set(annotations)):
        path = pictures[picture_id]
        defects.append(Defect(path, "missing annotation", f"no Annotations/{picture_id}.xml"))
    defects += _set_defects(folder, set(pictures), set(annotations))
    return Report(len(pictures), objects, defects)


def _size_defects(
    path: Path, stated: tuple[int, int] | None, actual: tuple[int, int]
) -> list[Defect]:
    if stated is None:
        return [Defect(path, "no size", f"the picture is {actual[0]}x{actual[1]}")]
    if stated != actual:
        said, found = (f"{width}x{height}" for width, height in (stated, actual))
        return [Defect(path, "wrong size", f"says {said}, the picture is {found}")]
    return []


def object_defects(
    path: Path,
    annotation: Annotation,
    size: tuple[int, int] | None,
    classes: Collection[str] | None,
) -> list[Defect]:
    """What is wrong with the objects of one annotation; a size of None is not checked against."""
    defects = []
    rows = zip(annotation.names, annotation.boxes.tolist(), strict=True)
    seen: dict[tuple[str, tuple[float, ...]], int] = {}
    for number, (name, (x1, y1, x2, y2)) in enumerate(rows, start=1):
        written = f"xmin {x1 + 1:g}, ymin {y1 + 1:g}, xmax {x2:g}, ymax {y2:g}"
        who = f"object {number} ({name}), {written}"
        if classes is not None and name not in classes:
            expected = ", ".join(classes)
            defects.append(Defect(path, "unknown class", f"{who}: expected one of {expected}"))
        # As the file writes them: of one and the same pixel column is a slip, too.
        if x2 < x1 + 1 or y2 < y1 + 1:
            defects.append(Defect(path, "swapped corners", who))
        elif x2 == x1 + 1 or y2 == y1 + 1:
            defects.append(Defect(path, "zero size", who))
        elif size is not None and (x1 < 0 or y1 < 0 or x2 > size[0] or y2 > size[1]):
            where = f"{who}: the picture is {size[0]}x{size[1]}"
            defects.append(Defect(path, "outside the picture", where))
        first = seen.setdefault((name, (x1, y1, x2, y2)), number)
        if first != number:
            defects.append(Defect(path, "duplicate object", f"{who}: the same as object {first}"))
    return defects


def _set_defects(folder: Path, pictures: set[str], annotations: set[str]) -> list[Defect]:
    defects = []
    sets = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    if not sets:
        defects.append(Defect(folder / "ImageSets" / "Main", "no image sets", "expected *.txt"))
    for path in sets:
        ids = read_image_set(path)
        if not ids:
            defects.append(Defect(path, "empty set", "names no picture"))
        for picture_id, count in Counter(ids).items():
            if count > 1:
                defects.append(Defect(path, "duplicate id", f"'{picture_id}' {count} times"))
            if picture_id not in pictures:
                defects.append(Defect(path, "missing picture", f"'{picture_id}'"))
            elif picture_id not in annotations:
                defects.append(Defect(path, "missing annotation", f"'{picture_id}'"))
    return defects
