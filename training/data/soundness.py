# SPDX-License-Identifier: Apache-2.0
"""Whether the boxes of a dataset fit its images, and whether it is still the same dataset."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence

from training.data.boxes import clip_and_validate
from training.data.samples import Sample, TrainingData, invalid_boxes
from training.data.voc import VOCError

_SEE = "see python -m training.voc check"


def find_warnings(samples: Sequence[Sample]) -> list[str]:
    """What is suspicious about sizes and orientations of images, one text for each kind."""
    texts = []
    resized = [s for s in samples if s.stated_size not in (None, s.size)]
    if resized:
        first = resized[0]
        stated, actual = (f"{w}x{h}" for w, h in (first.stated_size or (0, 0), first.size))
        texts.append(
            f"{len(resized)} annotations are for images of another size, first: "
            f"'{first.record.annotation}' states {stated}, '{first.record.image}' has {actual}; "
            f"{_SEE}"
        )
    if turned := [s for s in samples if s.view_unknown]:
        texts.append(
            f"{len(turned)} images are turned by their EXIF orientation, and the size in the "
            "annotation does not tell whether the boxes refer to the upright or to the stored "
            f"image, first: '{turned[0].record.image}'; taken as upright, --exif-view decides"
        )
    if ignored := Counter(name for s in samples for name in s.ignored):
        counts = ", ".join(f"{name} {count}" for name, count in sorted(ignored.items()))
        texts.append(f"{ignored.total()} objects of other classes than --classes ignored: {counts}")
    return texts


def find_warnings_of_validation(samples: Sequence[Sample]) -> list[str]:
    """`find_warnings`, and what makes the mAP lower or undefined."""
    texts = find_warnings(samples)
    invalid, total = invalid_boxes(samples), sum(len(s.labels) for s in samples)
    if invalid:
        texts.append(
            f"{invalid.total()} of {total} objects have no area inside the image and count as "
            f"missed, in {', '.join(list(invalid)[:3])}{' …' if len(invalid) > 3 else ''}; {_SEE}"
        )
    difficult = sum(int(s.difficult.sum()) for s in samples)
    if difficult == total:
        texts.append(
            f"the mAP is undefined: none of the {total} objects is without the mark 'difficult', "
            "so that the last weights are taken as the best"
        )
    return texts


def check_boxes(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Checks that there is something to train on.

    Raises:
        VOCError: no box has an area inside its image, or there is none; or objects of other
            classes are ignored, and one of the chosen classes has none: its name is wrong.
    """
    labels = {label for s in samples for label in s.labels.tolist()}
    ignored = {name for s in samples for name in s.ignored}
    missing = [name for number, name in enumerate(classes) if number not in labels]
    if ignored and missing:
        raise VOCError(
            f"--classes names '{missing[0]}', of which the training images have no object; their "
            f"other classes are {', '.join(sorted(ignored))}"
        )
    invalid, total = invalid_boxes(samples), sum(len(s.labels) for s in samples)
    if invalid.total() == total:
        raise VOCError(
            f"none of the {total} boxes has an area inside its image, first: "
            f"'{next(iter(invalid), '')}'" + "".join(f"; {t}" for t in find_warnings(samples))
        )


def fingerprint(data: TrainingData) -> str:
    """A hash of everything of a dataset that decides about a training, but the pixels and paths."""
    digest = hashlib.sha256(json.dumps(data.classes).encode())
    for sample in data.samples:
        boxes, valid = clip_and_validate(sample.boxes, sample.size)
        digest.update(json.dumps([sample.record.image_id, *sample.size]).encode())
        digest.update(sample.labels[valid].tobytes() + boxes[valid].tobytes())
    return digest.hexdigest()
