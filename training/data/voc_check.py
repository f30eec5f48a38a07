# SPDX-License-Identifier: Apache-2.0
"""Defects of a VOC-format dataset: what would stop a training or make its result wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ssd_ros.io import image_files
from training.data.voc import Annotation, VOCError, import_hint, read_annotation, read_image_set


@dataclass(frozen=True)
class Defect:
    """One defect of a file.

    Attributes:
        file: the file with the defect.
        kind: category, for counting.
        detail: the object, the value found and the value expected.
    """

    file: Path
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Report:
    """Contents and defects of a dataset."""

    images: int
    objects: Counter[str]
    defects: list[Defect]


def check(root: Path, classes: Collection[str] | None = None) -> Report:
    """Reads every file of a VOC-format folder, or of every VOC* folder of a development kit.

    Args:
        root: the folder.
        classes: the expected class names; None accepts any.

    Raises:
        VOCError: there is no such folder in root.
    """
    reports = [_check_folder(folder, classes) for folder in find_folders(root)]
    return Report(
        sum(report.images for report in reports),
        sum((report.objects for report in reports), Counter()),
        [defect for report in reports for defect in report.defects],
    )


def find_folders(root: Path) -> list[Path]:
    """The VOC-format folders of a dataset: itself, or those of a development kit.

    Raises:
        VOCError: there is none.
    """
    folders = [root] if (root / "Annotations").is_dir() else sorted(root.glob("**/VOC2*"))
    folders = [folder for folder in folders if (folder / "Annotations").is_dir()]
    if not folders:
        raise VOCError(
            f"'{root}' is not a VOC-format folder: it has no Annotations/{import_hint(root)}"
        )
    return folders


def _check_folder(folder: Path, classes: Collection[str] | None) -> Report:
    annotations = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
    images: dict[str, Path] = {}
    defects = []
    image_folder = folder / "JPEGImages"
    for path in sorted(image_folder.iterdir()) if image_folder.is_dir() else ():
        if path.suffix.lower() not in image_files.SUFFIXES:
            continue
        if path.stem in images:
            defects.append(
                Defect(path, "duplicate id", f"'{images[path.stem].name}' has the same name")
            )
        images.setdefault(path.stem, path)

    objects: Counter[str] = Counter()
    for image_id in tqdm(sorted(annotations), desc=folder.name, unit="file", disable=None):
        path = annotations[image_id]
        image = images.get(image_id)
        if image is None:
            defects.append(Defect(path, "missing image", f"no JPEGImages/{image_id}.*"))
        try:
            annotation = read_annotation(path)
        except VOCError as error:
            defects.append(Defect(path, "unreadable annotation", str(error)))
            continue
        objects.update(annotation.names)
        size = annotation.size
        if image is not None:
            try:
                pixels = image_files.read(image)
            except ValueError as error:
                defects.append(Defect(image, "unreadable image", str(error)))
            else:
                defects += _size_defects(path, size, (pixels.shape[1], pixels.shape[0]))
                size = pixels.shape[1], pixels.shape[0]
        defects += object_defects(path, annotation, size, classes)
    for image_id in sorted(set(images) - set(annotations)):
        path = images[image_id]
        defects.append(Defect(path, "missing annotation", f"no Annotations/{image_id}.xml"))
    defects += _set_defects(folder, set(images), set(annotations))
    return Report(len(images), objects, defects)


def _size_defects(
    path: Path, stated: tuple[int, int] | None, actual: tuple[int, int]
) -> list[Defect]:
    if stated is None:
        return [Defect(path, "no size", f"the image is {actual[0]}x{actual[1]}")]
    if stated != actual:
        stated_text, actual_text = (f"{width}x{height}" for width, height in (stated, actual))
        return [Defect(path, "wrong size", f"says {stated_text}, the image is {actual_text}")]
    return []


def object_defects(
    path: Path,
    annotation: Annotation,
    size: tuple[int, int] | None,
    classes: Collection[str] | None,
) -> list[Defect]:
    """Defects of the objects of one annotation; a size of None skips that check."""
    defects = []
    rows = zip(annotation.names, annotation.boxes.tolist(), strict=True)
    seen: dict[tuple[str, tuple[float, ...]], int] = {}
    for number, (name, (x1, y1, x2, y2)) in enumerate(rows, start=1):
        written = f"xmin {x1 + 1:g}, ymin {y1 + 1:g}, xmax {x2:g}, ymax {y2:g}"
        described = f"object {number} ({name}), {written}"
        if classes is not None and name not in classes:
            expected = ", ".join(classes)
            defects.append(
                Defect(path, "unknown class", f"{described}: expected one of {expected}")
            )
        # As written in the file: a box within one pixel column or row is a mistake, too.
        if x2 < x1 + 1 or y2 < y1 + 1:
            defects.append(Defect(path, "swapped corners", described))
        elif x2 == x1 + 1 or y2 == y1 + 1:
            defects.append(Defect(path, "zero size", described))
        elif size is not None and (x1 < 0 or y1 < 0 or x2 > size[0] or y2 > size[1]):
            detail = f"{described}: the image is {size[0]}x{size[1]}"
            defects.append(Defect(path, "outside the image", detail))
        first = seen.setdefault((name, (x1, y1, x2, y2)), number)
        if first != number:
            defects.append(
                Defect(path, "duplicate object", f"{described}: the same as object {first}")
            )
    return defects


def _set_defects(folder: Path, images: set[str], annotations: set[str]) -> list[Defect]:
    defects = []
    sets = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    if not sets:
        defects.append(Defect(folder / "ImageSets" / "Main", "no image sets", "expected *.txt"))
    for path in sets:
        try:
            ids = read_image_set(path)
        except VOCError as error:
            defects.append(Defect(path, "unreadable set", str(error)))
            continue
        if not ids:
            defects.append(Defect(path, "empty set", "names no image"))
        for image_id, count in Counter(ids).items():
            if count > 1:
                defects.append(Defect(path, "duplicate id", f"'{image_id}' {count} times"))
            if image_id not in images:
                defects.append(Defect(path, "missing image", f"'{image_id}'"))
            elif image_id not in annotations:
                defects.append(Defect(path, "missing annotation", f"'{image_id}'"))
    return defects
