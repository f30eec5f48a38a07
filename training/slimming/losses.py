# SPDX-License-Identifier: Apache-2.0
"""The training loss of networks on some images, to compare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ssd_ros.weights.weights import Weights
from training.data.augment import Augment
from training.data.batches import collate
from training.data.dataset import DetectionDataset
from training.data.samples import Sample
from training.trainer.loss import match, multibox_loss

_IMAGES = 16


def mean_loss(
    samples: Sequence[Sample], seed: int, device: torch.device
) -> Callable[[Weights], float]:
    """A function that computes the MultiBox loss of weights on some images, without augmentation.

    Args:
        samples: annotated images; some are chosen at random, and read at the first call.
        seed: of that choice.
        device: runs the networks.
    """
    read: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @torch.inference_mode()
    def compute(weights: Weights) -> float:
        model = weights.model().to(device)
        config = model.config
        if not read:
            fill = tuple(255 * value for value in config.mean)
            dataset = DetectionDataset(samples, Augment("none", fill, config.input_size), seed)
            batch = collate([dataset[i] for i in range(min(_IMAGES, len(samples)))])
            read.append((batch.images.to(device), batch.boxes.to(device), batch.labels.to(device)))
        images, boxes, labels = read[0]
        targets = match(boxes, labels, model.defaults)
        outputs = [model(model.normalise(part)) for part in images.split(4)]
        logits, offsets = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        sums = multibox_loss(logits, offsets, targets, model.defaults, config.variances)
        return float(sum(sums)) / max(1, targets.positives)

    return compute
