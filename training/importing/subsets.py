# SPDX-License-Identifier: Apache-2.0
"""Which image set an image is in, as the dataset itself says: by lists, or by folders."""

from __future__ import annotations

import re
from pathlib import Path

from ssd_ros.io import image_files
from training.importing.files import SourceFiles, read_lines, subset_of
from training.importing.labels import LabelledImage


def stated(source: SourceFiles, images: list[LabelledImage]) -> dict[Path, str]:
    """train, val or test of the images of which lists, label files or folders say it.

    Lists are `ImageSets/Main/train.txt` (also `trainval.txt`, which is `train` except for those
    of `val.txt`) and `train.txt` at the root.
    """
    found: dict[Path, str] = {}
    for image in images:
        subset = source.subset(image.image, image.labels) or _of_file(image.labels)
        if subset is not None:
            found[image.image] = subset
    labelled = {image.image for image in images}
    for title in ("trainval", "train", "val", "valid", "test"):
        for path in source.with_suffix(".txt"):
            folder = path.parent.relative_to(source.root).parts
            if path.stem != title or (folder and folder[-2:] != ("ImageSets", "Main")):
                continue
            subset = "train" if title == "trainval" else subset_of(title)
            for name in read_lines(path):
                image_path = _find(source, path, name.strip())
                if image_path in labelled and subset is not None:
                    found[image_path] = subset
    return found


def _find(source: SourceFiles, path: Path, name: str) -> Path | None:
    try:
        return source.find_image(path, name) if name else None
    except ValueError:
        return None


def _of_file(labels: Path) -> str | None:
    """The subset in the name of a file for many images, as in instances_val2017.json."""
    if labels.suffix.lower() in (".xml", ".txt", *image_files.SUFFIXES):
        return None
    words = re.split(r"[^a-z0-9]+", labels.stem.lower())
    return next((subset for word in words if (subset := subset_of(word))), None)
