# SPDX-License-Identifier: Apache-2.0
"""Defects of a VOC-format dataset: what would stop a training or make its result wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ssd_ros.io import image_files
from training.data import image_sets
from training.data.exif_view import labelled_view, stored_size
from training.data.samples import Sample, to_sample
from training.data.voc import Annotation, ImageRecord, VOCError, import_hint, read_annotation

_ROUNDING = 0.01  # pixels by which a side of length 0 may be off in a file with fractions of pixels


@dataclass(frozen=True)
class Defect:
    """One defect of a file.

    Attributes:
        file: the file with the defect.
        kind: category, for counting.
        detail: the object, the value found and the value expected.
        number: of the object in the file, from 1; None for a defect of the whole file.
    """

    file: Path
    kind: str
    detail: str
    number: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Report:
    """Contents and defects of a dataset.

    Attributes:
        images: their number.
        objects: of each class, in all annotations that can be read.
        lost: those of them that are not in the loss of a training, see `loss_objects`.
        unlisted: those of them whose image is in no image set.
        ignored: objects of other classes than those of a training.
        defects: of all files.
    """

    images: int
    objects: Counter[str]
    lost: Counter[str]
    unlisted: Counter[str]
    ignored: Counter[str]
    defects: list[Defect]


def check(
    root: Path,
    classes: Collection[str] | None = None,
    exif_view: str = "auto",
    decode: bool = True,
) -> Report:
    """Reads every file of a VOC-format folder, or of every VOC* folder of a development kit.

    Args:
        root: the folder.
        classes: names of the classes to train; objects of others are ignored. None for all.
        exif_view: see `training.data.exif_view`.
        decode: decode each image; otherwise only headers are read, as of images that were decoded
            before.

    Raises:
        VOCError: there is no such folder in root.
    """
    reports = [_check_folder(folder, classes, exif_view, decode) for folder in find_folders(root)]
    objects, lost, unlisted, ignored = (
        sum(counts, Counter[str]())
        for counts in zip(
            *((r.objects, r.lost, r.unlisted, r.ignored) for r in reports), strict=True
        )
    )
    defects = [defect for report in reports for defect in report.defects]
    if missing := [name for name in classes or () if not objects[name]]:
        others = ", ".join(sorted(ignored)) or "none"
        defects += [
            Defect(root, "no objects", f"of class '{name}'; ignored classes: {others}")
            for name in missing
        ]
    images = sum(report.images for report in reports)
    return Report(images, objects, lost, unlisted, ignored, defects)


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


def _check_folder(
    folder: Path, classes: Collection[str] | None, exif_view: str, decode: bool
) -> Report:
    images, annotations = image_sets.find_pairs(folder)
    defects = [
        Defect(path, "duplicate id", f"'{paths[0].name}' has the same name")
        for paths in (*images.values(), *annotations.values())
        for path in paths[1:]
    ]
    contents: dict[str, Annotation] = {}
    views: dict[str, tuple[tuple[int, int], int]] = {}
    for image_id in tqdm(sorted(annotations), desc=folder.name, unit="file", disable=None):
        path = annotations[image_id][0]
        try:
            annotation = read_annotation(path)
            contents[image_id] = annotation if classes is None else annotation.only(classes)
        except VOCError as error:
            defects.append(Defect(path, "unreadable annotation", str(error)))
        if image_id not in images:
            defects.append(Defect(path, "missing image", f"no JPEGImages/{image_id}.*"))
            continue
        try:  # also without an annotation
            views[image_id] = _read_view(images[image_id][0], decode)
        except ValueError as error:
            defects.append(Defect(images[image_id][0], "unreadable image", str(error)))
    for image_id, annotation in contents.items():
        path, size = annotations[image_id][0], annotation.size
        if image_id in views:
            size, found = _labelled_size(path, annotation, *views[image_id], exif_view)
            defects += found
        defects += _object_defects(path, annotation, size)
    for image_id in sorted(set(images) - set(annotations)):
        path = images[image_id][0]
        defects.append(Defect(path, "missing annotation", f"no Annotations/{image_id}.xml"))

    objects = _count(contents.values())
    index = {name: number for number, name in enumerate(objects)}
    samples = [
        to_sample(
            ImageRecord(image_id, images[image_id][0], annotations[image_id][0]),
            contents[image_id],
            index,
            *view,
            exif_view,
        )
        for image_id, view in views.items()
        if image_id in contents
    ]
    lost, lost_defects = _find_lost(samples, list(objects))
    lost += objects - _count(contents[sample.record.image_id] for sample in samples)
    set_defects, listed = _check_sets(folder, set(images), set(annotations))
    unlisted = _count(contents[image_id] for image_id in set(contents) - listed)
    ignored = Counter(name for annotation in contents.values() for name in annotation.ignored)
    defects += lost_defects + set_defects
    return Report(len(images), objects, lost, unlisted, ignored, defects)


def _read_view(path: Path, decode: bool) -> tuple[tuple[int, int], int]:
    """Size and EXIF orientation of an image, see `image_files.read_view`."""
    size, orientation = image_files.read_view(path)
    if decode:
        height, width = image_files.read(path).shape[:2]
        size = width, height
    return size, orientation


def _count(annotations: Iterable[Annotation]) -> Counter[str]:
    return Counter(name for annotation in annotations for name in annotation.names)


def _find_lost(
    samples: Sequence[Sample], names: Sequence[str]
) -> tuple[Counter[str], list[Defect]]:
    """Objects that no loss contains, and why, where no other defect says it already."""
    from training.data import loss_objects  # PyTorch takes seconds to import

    found = loss_objects.find_lost(samples)
    defects = [
        Defect(
            item.file,
            "not in the loss",
            f"object {item.number} ({names[item.label]}): {item.reason}",
            item.number,
        )
        for item in found
        if item.reason != loss_objects.NO_AREA
    ]
    return Counter(names[item.label] for item in found), defects


def _labelled_size(
    path: Path,
    annotation: Annotation,
    actual: tuple[int, int],
    orientation: int,
    exif_view: str,
) -> tuple[tuple[int, int], list[Defect]]:
    """Width and height of the view of an image that was labelled, and what is wrong with it."""
    stated = annotation.size
    view = labelled_view(orientation, actual, stated)
    defects = []
    if view is None and exif_view == "auto" and annotation.names:
        detail = (
            f"EXIF orientation {orientation} turns the image, and the size does not tell whether "
            "that was labelled; --exif-view upright or stored decides"
        )
        defects.append(Defect(path, "unknown view", detail))
    if (view or exif_view) == "stored":
        actual = stored_size(orientation, actual)
    if stated is None:
        defects.append(Defect(path, "no size", f"the image is {actual[0]}x{actual[1]}"))
    elif stated != actual:
        stated_text, actual_text = (f"{width}x{height}" for width, height in (stated, actual))
        detail = f"says {stated_text}, the image is {actual_text}"
        defects.append(Defect(path, "wrong size", detail))
    return actual, defects


def _object_defects(
    path: Path, annotation: Annotation, size: tuple[int, int] | None
) -> list[Defect]:
    """Defects of the objects of one annotation; a size of None skips that check."""
    defects = []
    numbers, boxes = annotation.numbers.tolist(), annotation.boxes.tolist()
    seen: dict[tuple[str, tuple[float, ...]], int] = {}
    for number, name, (x1, y1, x2, y2) in zip(numbers, annotation.names, boxes, strict=True):
        written = f"xmin {x1 + 1:g}, ymin {y1 + 1:g}, xmax {x2:g}, ymax {y2:g}"
        described = f"object {number} ({name}), {written}"
        found = []
        if min(x2 - x1, y2 - y1) < -_ROUNDING:
            found.append(("swapped corners", described))
        # A box within one pixel column or row, written with xmin = xmax, is a mistake, too.
        elif x2 <= x1 + 1 or y2 <= y1 + 1:
            found.append(("too small", f"{described}: {_extent(x2 - x1, y2 - y1)}"))
        # Many tools count pixels from 0: their 0 is no place outside of the image.
        elif size is not None and (x1 < -1 or y1 < -1 or x2 > size[0] or y2 > size[1]):
            found.append(("outside the image", f"{described}: the image is {size[0]}x{size[1]}"))
        first = seen.setdefault((name, (x1, y1, x2, y2)), number)
        if first != number:
            found.append(("duplicate object", f"{described}: the same as object {first}"))
        defects += [Defect(path, kind, detail, number) for kind, detail in found]
    return defects


def _extent(width: float, height: float) -> str:
    """Width and height in pixels of a box that is too small."""
    width, height = (abs(round(side, 2)) for side in (width, height))  # -0.0 of a rounding is 0
    return f"width {width:g}, height {height:g}, expected more than 1 pixel"


def _check_sets(
    folder: Path, images: set[str], annotations: set[str]
) -> tuple[list[Defect], set[str]]:
    """Defects of the image sets, and all images that they name."""
    defects, listed = [], set()
    sets = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    if not sets:
        defects.append(Defect(folder / "ImageSets" / "Main", "no image sets", "expected *.txt"))
    for path in sets:
        try:
            lines = image_sets.read(path, images | annotations)
        except VOCError as error:
            defects.append(Defect(path, "unreadable set", str(error)))
            continue
        ids = [image_id or text for text, image_id in lines]
        listed.update(ids)
        if not ids:
            defects.append(Defect(path, "empty set", "names no image"))
        for image_id, count in Counter(ids).items():
            if count > 1:
                defects.append(Defect(path, "duplicate id", f"'{image_id}' {count} times"))
            if image_id not in images:
                defects.append(Defect(path, "missing image", f"'{image_id}'"))
            elif image_id not in annotations:
                defects.append(Defect(path, "missing annotation", f"'{image_id}'"))
    return defects, listed
