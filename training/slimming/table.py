# SPDX-License-Identifier: Apache-2.0
"""The networks of a run of training.slim, one line each: what they cost, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights
from training.data.samples import load
from training.data.voc import ImageRecord
from training.evaluation import compared, speed

_NAME = 40  # characters of a file's name
_HOW = BackendOptions("auto", "auto", "fp32")


@dataclass(frozen=True)
class Validation:
    """What the networks are evaluated on.

    Attributes:
        records: the validation images; empty where there are none.
        classes: that the training has.
        exif_view: see `training.data.exif_view`.
        only: the classes of --classes; None for all.
    """

    records: Sequence[ImageRecord]
    classes: Sequence[str]
    exif_view: str
    only: Sequence[str] | None


def table(files: Sequence[str | Path], validation: Validation) -> str:
    """Size, multiplications, time in fp32 and mAP of weights files, a line each.

    A file that cannot be used gets the reason instead: the others may have taken hours.
    """
    rows = [(str(file), *_evaluate(file, validation)) for file in files]
    networks = [weights for _, weights, _ in rows if weights is not None]
    costs = iter(compared.costs(networks, _HOW))
    title = "network in fp32, one image at a time"
    lines = [f"{title:<{_NAME}} {'MB':>6} {'1e9 mult.':>9} {'ms':>7}  mAP (VOC2007)"]
    for name, weights, text in rows:
        line = f"{name if len(name) <= _NAME else '…' + name[1 - _NAME :]:<{_NAME}} "
        if weights is not None:
            cost = next(costs)
            line += f"{cost.megabytes:6.1f} {cost.multiplications:9.2f} {cost.milliseconds:7.1f}  "
        lines.append(line + text)
    return "\n".join(lines)


def _evaluate(file: str | Path, validation: Validation) -> tuple[Weights | None, str]:
    """The network of a file and its mAP in words; None and the reason where it cannot be used."""
    try:
        weights = replace(read(file), quantisation=None)
        return weights, _score(weights, validation)
    except (ValueError, OSError, NotFiniteError) as error:
        return None, str(error)


def _score(weights: Weights, validation: Validation) -> str:
    """The mAP in words."""
    if not validation.records:
        return "- (no validation images)"
    if not set(validation.classes) <= set(weights.classes):
        return "- (other classes)"
    samples, _ = load(validation.records, weights.classes, validation.exif_view, validation.only)
    try:
        return f"{speed.mean_ap(samples, _HOW, weights):.4f}"
    except speed.UndefinedError:
        return "- (no object counts)"
