# SPDX-License-Identifier: Apache-2.0
"""What a dataset of another tool contains, whatever its format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from training.data.voc_xml import VOCObject


class DatasetImportError(ValueError):
    """A dataset that cannot be imported; the message names the file and the reason."""


@dataclass(frozen=True)
class LabelledImage:
    """One image.

    Attributes:
        image: its file.
        labels: the file with its annotation; the image itself where there is none.
        size: width and height as the annotation states them, None where it does not.
        objects: what is in the image.
    """

    image: Path
    labels: Path
    size: tuple[int, int] | None
    objects: tuple[VOCObject, ...]


@dataclass
class Labels:
    """All images of a dataset, and what happened to those objects that were not plain boxes.

    Attributes:
        images: in the order of their annotations.
        converted: objects that became another shape or state, by what was done.
        dropped_objects: objects that cannot be read, each with file, object and reason.
        dropped_files: annotations and unreadable images that are not imported, each with the reason
            and its number of objects.
        unlabelled: images that are not imported because nothing says what is in them.
        notes: other remarks, with their number of files.
    """

    images: list[LabelledImage] = field(default_factory=list)
    converted: Counter[str] = field(default_factory=Counter)
    dropped_objects: list[str] = field(default_factory=list)
    dropped_files: list[str] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
