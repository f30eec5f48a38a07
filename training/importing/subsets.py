# SPDX-License-Identifier: Apache-2.0
"""Which image set an image is in, as the dataset itself says: by lists, or by folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssd_ros.io import image_files
from training.data import image_sets
from training.importing.files import (
    AmbiguousImageError,
    SourceFiles,
    read_lines,
    read_yaml,
    subset_of,
)
from training.importing.labels import LabelledImage


def stated(source: SourceFiles, images: list[LabelledImage]) -> dict[Path, str]:
    """train, val or test of the images of which lists, label files or folders say it.

    Lists are `ImageSets/Main/train.txt` (also `trainval.txt`, which is `train` except for those
    of `val.txt`), `train.txt` at the root, and those of a YAML file, which also names folders.
    """
    found: dict[Path, str] = {}
    for image in images:
        subset = source.subset(image.image, image.labels) or _of_file(image.labels)
        if subset is not None:
            found[image.image] = subset
    labelled = {image.image for image in images}
    for subset, path in (*_in_yaml(source), *_lists(source)):
        if path.is_dir():
            of_path = {file for file in labelled if file.is_relative_to(path)}
        else:
            of_path = {file for line in read_lines(path) if (file := _find(source, path, line))}
        found.update(dict.fromkeys(of_path & labelled, subset))
    return found


def _lists(source: SourceFiles) -> Iterator[tuple[str, Path]]:
    """Subsets and the files that list their images; the last one counts."""
    for title in ("trainval", "train", "val", "valid", "test"):
        for path in source.with_suffix(".txt"):
            folder = path.parent.relative_to(source.root).parts
            if path.stem == title and (not folder or folder[-2:] == ("ImageSets", "Main")):
                yield "train" if title == "trainval" else subset_of(title) or title, path


def _in_yaml(source: SourceFiles) -> Iterator[tuple[str, Path]]:
    """Subsets and the folders or lists that YAML files of YOLO name for them."""
    for path in source.with_suffix(".yaml", ".yml"):
        document = read_yaml(path)
        if not isinstance(document, dict) or not document.get("names"):
            continue
        for title in ("train", "val", "test"):
            entries = document.get(title) or []
            if title != "train" and entries == document.get("train"):
                continue  # a validation on the images of the training is none
            for entry in [entries] if isinstance(entries, str) else entries:
                # The folders before those of the dataset are of another machine.
                path_text = str(entry).replace("\\", "/")
                parts = [part for part in PurePosixPath(path_text).parts if part != ".."]
                choices = (source.root.joinpath(*parts[k:]) for k in range(len(parts)))
                inside = (p for p in choices if p.is_relative_to(source.root) and p.exists())
                if (found := next(inside, None)) is not None:
                    yield title, found


def _find(source: SourceFiles, path: Path, line: str) -> Path | None:
    for name in image_sets.entries(line):
        try:
            if found := source.find_image(path, name):
                return found.image
        except AmbiguousImageError:
            return None
    return None


def _of_file(labels: Path) -> str | None:
    """The subset in the name of a file for many images, as in instances_val2017.json."""
    if labels.suffix.lower() in (".xml", ".txt", *image_files.SUFFIXES):
        return None
    words = re.split(r"[^a-z0-9]+", labels.stem.lower())
    return next((subset for word in words if (subset := subset_of(word))), None)
