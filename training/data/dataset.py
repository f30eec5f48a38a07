# SPDX-License-Identifier: Apache-2.0
"""Augmented training samples by their number in the run.

The number alone decides which image is drawn and how it is augmented. A run that is resumed, or
spread over workers and processes, therefore sees the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssd_ros.io import image_files
from training.data.augment import Augment
from training.data.boxes import clip_and_validate
from training.data.samples import Sample


class DetectionDataset(Dataset[tuple[Tensor, Tensor, Tensor, str]]):
    """Training samples by their number in the run: image, boxes, labels, file name.

    Args:
        samples: the annotated images; each epoch uses every one once, in a new order.
        augment: see `training.data.augment`.
        seed: of the order and of the augmentation.
    """

    def __init__(self, samples: Sequence[Sample], augment: Augment, seed: int) -> None:
        self._samples = samples
        self._augment = augment
        self._seed = seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, str]:
        """The augmented sample of a number, 0 or more; see `Augment` for shapes.

        Raises:
            ValueError: the image cannot be read.
        """
        sample = self._samples[self._index(number)]
        image = cv2.cvtColor(image_files.read(sample.record.image), cv2.COLOR_BGR2RGB)
        boxes, valid = clip_and_validate(sample.boxes, (image.shape[1], image.shape[0]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self._seed, number))
            pixels, corners, labels = self._augment(image, boxes[valid], sample.labels[valid])
        return pixels, corners, labels, str(sample.record.image)

    def _index(self, number: int) -> int:
        epoch, position = divmod(number, len(self._samples))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, -1 - epoch))
            self._order = epoch, torch.randperm(len(self._samples), generator=generator)
        return int(self._order[1][position])


def derive_seed(seed: int, number: int) -> int:
    """A seed for torch from two numbers; neighbouring numbers give unrelated seeds."""
    words = np.random.SeedSequence([seed, number & (2**64 - 1)]).generate_state(2, np.uint32)
    return int(words[0]) << 32 | int(words[1])
