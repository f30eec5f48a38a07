# SPDX-License-Identifier: Apache-2.0
"""The annotated images of a dataset, with classes as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ssd_ros.io import image_files
from training.data.boxes import clip_and_validate
from training.data.exif_view import labelled_view, stored_size, to_upright
from training.data.voc import Annotation, ImageRecord, VOCError, find_classes, read_annotation


class UnknownClassError(VOCError):
    """An annotation has a class that is not among the expected ones."""


@dataclass(frozen=True)
class Sample:
    """One image and its annotated objects.

    Attributes:
        record: image and annotation file.
        labels: int64 (N,), 0-based class.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the upright image, as written in the file
            otherwise.
        difficult: bool (N,).
        numbers: int64 (N,), of the objects in the file, from 1.
        size: width and height of the image.
        stated_size: the same by the annotation, None where it states none.
        ignored: classes of the objects that are left out because of their class.
        view_unknown: whether the boxes may refer to the image as stored or to the upright one.
    """

    record: ImageRecord
    labels: np.ndarray
    boxes: np.ndarray
    difficult: np.ndarray
    numbers: np.ndarray
    size: tuple[int, int]
    stated_size: tuple[int, int] | None = None
    ignored: tuple[str, ...] = ()
    view_unknown: bool = False


def load(
    records: Sequence[ImageRecord],
    classes: Sequence[str] | None = None,
    exif_view: str = "auto",
    only: Sequence[str] | None = None,
) -> tuple[list[Sample], tuple[str, ...]]:
    """Reads the annotations of an image set, and the headers of its images.

    Args:
        records: the images.
        classes: class names; None to find them in the annotations.
        exif_view: see `training.data.exif_view`.
        only: some of the classes: objects of all others are left out. None: of an unknown class
            they are an error.

    Returns:
        The samples in the order of the records, and the class names.

    Raises:
        VOCError: an annotation cannot be read, or a class is unknown (an UnknownClassError), or
            there is none at all.
        ImageError: an image cannot be read.
    """
    progress = tqdm(records, desc="annotations", unit="file", disable=None, leave=False)
    annotations = [read_annotation(record.annotation) for record in progress]
    names = tuple(classes) if classes is not None else find_classes(annotations)
    if not names:
        raise VOCError(f"none of the {len(records)} images has an object")
    index = {name: i for i, name in enumerate(names)}
    if only is not None:
        if wrong := [name for name in only if name not in index]:
            raise VOCError(f"unknown class '{wrong[0]}', expected some of {', '.join(names)}")
        annotations = [annotation.only(only) for annotation in annotations]
    return [
        to_sample(record, annotation, index, *image_files.read_view(record.image), exif_view)
        for record, annotation in zip(records, annotations, strict=True)
    ], names


def to_sample(
    record: ImageRecord,
    annotation: Annotation,
    index: Mapping[str, int],
    size: tuple[int, int],
    orientation: int = 1,
    exif_view: str = "auto",
) -> Sample:
    """An annotation with classes as numbers.

    Args:
        index: number of each class.
        size: width and height of the upright image.
        orientation: EXIF's, by which it is turned.
        exif_view: see `training.data.exif_view`.

    Raises:
        VOCError: a class has no number.
    """
    foreign = [name for name in annotation.names if name not in index]
    if foreign:
        raise UnknownClassError(
            f"annotation '{record.annotation}' has the class '{foreign[0]}', "
            f"expected one of {', '.join(index)}"
        )
    labels = np.array([index[name] for name in annotation.names], np.int64)
    boxes, stated = annotation.boxes, annotation.size
    view = labelled_view(orientation, size, stated)
    if (view or exif_view) == "stored":
        boxes = to_upright(boxes, orientation, stored_size(orientation, size))
        stated = stored_size(orientation, stated) if stated else None
    unknown = view is None and exif_view == "auto" and len(labels) > 0
    return Sample(
        record,
        labels,
        boxes,
        annotation.difficult,
        annotation.numbers,
        size,
        stated,
        annotation.ignored,
        unknown,
    )


def invalid_boxes(samples: Sequence[Sample]) -> Counter[str]:
    """For each annotation file the number of boxes that training ignores, where there are any."""
    counts = {
        str(s.record.annotation): int((~clip_and_validate(s.boxes, s.size)[1]).sum())
        for s in samples
    }
    return Counter({name: count for name, count in counts.items() if count})


@dataclass(frozen=True)
class TrainingData:
    """The images of a run.

    Attributes:
        samples: to train on.
        val_samples: to validate on; empty without validation.
        classes: class names of both.
    """

    samples: list[Sample]
    val_samples: list[Sample]
    classes: tuple[str, ...]
