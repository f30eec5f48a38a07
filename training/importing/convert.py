# SPDX-License-Identifier: Apache-2.0
"""Converts a dataset of another tool or layout to a VOC-format folder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssd_ros.io import image_files
from training.data import voc_xml
from training.importing import coco_files, sets, voc_files, yolo_files
from training.importing.files import SourceFiles
from training.importing.labels import DatasetImportError, LabelledImage, Labels

# For each format: what recognises its files, and tells why others cannot be read; what reads them.
_FORMATS: dict[
    str, tuple[Callable[[SourceFiles], tuple[Any, list[str]]], Callable[..., Labels]]
] = {
    "voc": (voc_files.find, voc_files.read),
    "coco": (coco_files.find, coco_files.read),
    "yolo": (yolo_files.find, yolo_files.read),
}
FORMATS = tuple(_FORMATS)
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Options:
    """How to import.

    Attributes:
        format: of FORMATS; None to recognise it.
        fractions: see `split.split`; None for the sets that the dataset has, else sets.FRACTIONS.
        seed: of the division.
        link: symbolic links to the images instead of copies.
        exif_view: see `training.data.exif_view`.
    """

    format: str | None = None
    fractions: Sequence[float] | None = None
    seed: int = 0
    link: bool = False
    exif_view: str = "auto"


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        format: of FORMATS.
        labels: all that was found.
        sets: number of images of each image set.
        division: how the sets were made.
    """

    format: str
    labels: Labels
    sets: dict[str, int]
    division: str


def convert(source: Path, target: Path, options: Options) -> Imported:
    """Writes a VOC-format folder, completely or not at all. The source is only read.

    Args:
        source: folder, or a COCO JSON or YOLO YAML file in the folder with the images or beside it.
        target: the new folder; may exist if it is empty.
        options: see `Options`.

    Raises:
        DatasetImportError: the source is in no known format or not usable, or the target is not
            empty or inside the source.
        OSError: a file cannot be read or written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DatasetImportError(f"'{target}' exists and is not empty")
    root = source if source.is_dir() else source.parent
    if source.exists() and root.resolve() in (target.resolve(), *target.resolve().parents):
        raise DatasetImportError(f"'{target}' is inside of '{root}', which must not change")
    kind, labels = read(source, options.format, options.exif_view)
    _drop_unreadable(labels, source)
    ids = _ids(labels.images, root)
    parts, division = sets.divide(
        SourceFiles(root), labels.images, ids, options.fractions, options.seed
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        _write(part, labels.images, ids, options.link)
        sets.write(part, parts)
        part.chmod(0o777 & ~_umask())
        os.replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Imported(kind, labels, {name: len(ids) for name, ids in parts.items()}, division)


def read(source: Path, kind: str | None = None, exif_view: str = "auto") -> tuple[str, Labels]:
    """The format and the content of a dataset.

    Raises:
        DatasetImportError: it is in no known format, in several, or has no usable image.
    """
    if not source.exists():
        raise DatasetImportError(f"no such file or folder: '{source}'")
    files = SourceFiles(source if source.is_dir() else source.parent)
    if source.is_file() and source.suffix.lower() in _YAML:
        kind = kind or "yolo"
        files.files = [p for p in files.files if p == source or p.suffix.lower() not in _YAML]
    elif not source.is_dir():
        files.files = [path for path in files.files if path == source or path in set(files.images)]
    found, problems = {}, {}
    for name in FORMATS if kind is None else (kind,):
        content, problems[name] = _FORMATS[name][0](files)
        if content:
            found[name] = content
    if not found:
        first = next((text for texts in problems.values() for text in texts), "")
        raise DatasetImportError(
            f"'{source}' has {len(files.images)} images and no labels that can be read: expected "
            f"{'VOC XML, COCO JSON or YOLO text files' if kind is None else kind} below it"
            + (f"; {first}" if first else "")
        )
    if len(found) > 1:
        raise DatasetImportError(
            f"'{source}' has labels in several formats: choose with --format {' or '.join(found)}"
        )
    name, content = found.popitem()
    more = {"exif_view": exif_view} if name == "yolo" else {}  # the others state sizes
    labels = _FORMATS[name][1](files, content, **more)
    labels.dropped_files[:0] = problems[name]
    _check_content(labels, f"'{source}' ({name})")
    return name, labels


def _check_content(labels: Labels, source: str) -> None:
    if not any(image.objects for image in labels.images):
        reasons = [*labels.dropped_objects, *labels.dropped_files]
        raise DatasetImportError(
            f"{source} has no object that can be read"
            + (f", first of {len(reasons)} reasons: {reasons[0]}" if reasons else "")
        )


def _drop_unreadable(labels: Labels, source: Path) -> None:
    """Moves images that cannot be decoded to the dropped files: they would end a training."""
    readable = []
    for image in tqdm(labels.images, "reading", unit="file", disable=None, leave=False):
        try:
            image_files.read(image.image)
        except ValueError as error:
            labels.dropped_files.append(f"{error}; it has {len(image.objects)} readable objects")
        else:
            readable.append(image)
    labels.images = readable
    _check_content(labels, f"'{source}'")


def _ids(images: Sequence[LabelledImage], root: Path) -> list[str]:
    """A unique name for each image: its own, with its folders where another has the same."""
    stems = [_plain(image.image.stem) for image in images]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem.lower()] = counts.get(stem.lower(), 0) + 1
    ids, taken = [], set()
    for image, stem in zip(images, stems, strict=True):
        unique = counts[stem.lower()] == 1
        folders = image.image.relative_to(root).parts[:-1]
        name = stem if unique else _plain("_".join((*folders, stem)))
        number, candidate = 1, name
        while candidate.lower() in taken:  # also on disks that do not tell upper from lower case
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate.lower())
        ids.append(candidate)
    return ids


def _plain(name: str) -> str:
    """Image sets are lists of words in UTF-8, one in each line."""
    return re.sub(r"[\s\ud800-\udfff]+", "_", name.strip())


def _write(folder: Path, images: Sequence[LabelledImage], ids: Sequence[str], link: bool) -> None:
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir()
    rows = zip(images, ids, strict=True)
    for image, image_id in tqdm(rows, "images", len(ids), unit="file", disable=None, leave=False):
        file_name = image_id + image.image.suffix
        copy = folder / "JPEGImages" / file_name
        if link:
            copy.symlink_to(image.image.resolve())
        else:
            shutil.copyfile(image.image, copy)
        data = voc_xml.annotation(file_name, image.size, image.objects)
        (folder / "Annotations" / f"{image_id}.xml").write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
