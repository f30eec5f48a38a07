# SPDX-License-Identifier: Apache-2.0
"""Which annotated objects the loss never sees, and why: no object is lost silently.

Counted without augmentation, whose crops drop other objects each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssd_ros.model.config import PAPER_VOC, SSDConfig
from ssd_ros.model.default_boxes import default_boxes
from training.data.augment import Augment
from training.data.boxes import clip_and_validate
from training.data.samples import Sample
from training.data.voc import VOCError
from training.trainer.loss import match

NO_AREA = "no area inside the image"
TOO_THIN = "thinner than a pixel of the network's input"
NO_DEFAULT_BOX = "no default box left by its neighbours"
_IMAGES = 32  # matched at once
_FILES = 3  # that a warning names


@dataclass(frozen=True)
class LostObject:
    """An object that is in no loss.

    Attributes:
        file: its annotation.
        number: in the file, from 1.
        label: 0-based class.
        reason: NO_AREA, TOO_THIN or NO_DEFAULT_BOX.
    """

    file: Path
    number: int
    label: int
    reason: str


def find_lost(samples: Sequence[Sample], config: SSDConfig = PAPER_VOC) -> list[LostObject]:
    """The objects of a dataset that no loss of a training without augmentation contains.

    Args:
        config: of the network: its input size and default boxes.
    """
    augment = Augment("none", (0, 0, 0), config.input_size)
    lost: list[LostObject] = []
    crowded = []
    for sample in samples:
        boxes, valid = clip_and_validate(sample.boxes, sample.size)
        rows = np.flatnonzero(valid)
        corners, kept = augment.boxes(boxes[rows], rows, sample.size)
        lost += _lost(sample, np.flatnonzero(~valid), NO_AREA)
        lost += _lost(sample, np.setdiff1d(rows, kept.numpy()), TOO_THIN)
        if len(kept) > 1:  # a single one always has its best default box
            crowded.append((sample, corners, kept))
    crowded.sort(key=lambda item: len(item[2]))  # little padding
    defaults = torch.from_numpy(default_boxes(config))
    for first in range(0, len(crowded), _IMAGES):
        part = crowded[first : first + _IMAGES]
        unmatched = _unmatched([corners for _, corners, _ in part], defaults)
        for (sample, _, kept), positions in zip(part, unmatched, strict=True):
            lost += _lost(sample, kept[positions].numpy(), NO_DEFAULT_BOX)
    return sorted(lost, key=lambda item: (item.file, item.number))


def describe(
    lost: Sequence[LostObject], samples: Sequence[Sample], classes: Sequence[str]
) -> list[str]:
    """One text for each reason: how many objects of which classes, and the first files.

    Raises:
        VOCError: all objects of a class are lost, so that the network cannot learn it.
    """
    total = count_objects(samples)
    counts = Counter(item.label for item in lost)
    for label, number in total.items():
        if counts[label] == number:
            first = next(item for item in lost if item.label == label)
            raise VOCError(
                f"no object of class '{classes[label]}' reaches the loss; the first of {number} in "
                f"the training set: '{first.file}', object {first.number}: {first.reason}"
            )
    texts = []
    for reason in sorted({item.reason for item in lost}):
        items = [item for item in lost if item.reason == reason]
        names = Counter(classes[item.label] for item in items)
        files = list(dict.fromkeys(str(item.file) for item in items))
        texts.append(
            f"{len(items)} of {total.total()} objects are not in the loss ({reason}): "
            + ", ".join(f"{name} {count}" for name, count in sorted(names.items()))
            + f"; in {', '.join(files[:_FILES])}{' …' if len(files) > _FILES else ''}; "
            "see python -m training.voc check"
        )
    return texts


def rows(lost: Sequence[LostObject], classes: Sequence[str]) -> list[tuple[str, int, str, str]]:
    """File, number, class and reason of each object, for a table."""
    return [(item.file.name, item.number, classes[item.label], item.reason) for item in lost]


def count_objects(samples: Sequence[Sample]) -> Counter[int]:
    """Annotated objects of each class."""
    return Counter(label for sample in samples for label in sample.labels.tolist())


def _lost(sample: Sample, rows: np.ndarray, reason: str) -> Iterator[LostObject]:
    for row in rows.tolist():
        number, label = int(sample.numbers[row]), int(sample.labels[row])
        yield LostObject(sample.record.annotation, number, label, reason)


def _unmatched(images: Sequence[Tensor], defaults: Tensor) -> list[Tensor]:
    """For each image the positions of the boxes that no default box is matched to."""
    most = max(map(len, images))
    boxes = torch.zeros(len(images), most, 4)
    positions = torch.full((len(images), most), -1)
    for i, corners in enumerate(images):
        boxes[i, : len(corners)] = corners
        positions[i, : len(corners)] = torch.arange(len(corners))
    # As if each object was a class of its own: the loss's own matching says which remain.
    classes = match(boxes, positions, defaults).classes
    unmatched = []
    for i, corners in enumerate(images):
        matched = torch.zeros(1 + len(corners), dtype=torch.bool)
        matched[classes[i]] = True
        unmatched.append((~matched[1:]).nonzero()[:, 0])
    return unmatched
