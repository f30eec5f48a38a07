# SPDX-License-Identifier: Apache-2.0
"""Batches of a `DetectionDataset`, the same for any number of workers and processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.data.dataset import DetectionDataset
from training.data.workers import Stream, prepare


@dataclass(frozen=True)
class Batch:
    """Samples as the network takes them.

    Attributes:
        images: uint8 RGB (B, S, S, 3), S the network's input size.
        boxes: float32 (B, M, 4) corners as fractions; padded with zeros.
        labels: int64 (B, M), 0-based class; padded with -1.
        names: files of the images.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory; the DataLoader calls it."""
        return Batch(
            self.images.pin_memory(),
            self.boxes.pin_memory(),
            self.labels.pin_memory(),
            self.names,
        )


class BatchSampler:
    """Sample numbers of each batch of one process, from one iteration to another.

    All processes together use `batch * processes` samples an iteration, so that two processes see
    what one sees with twice the batch size.

    Args:
        first, last: iterations, the last one excluded.
        batch: samples of one process and iteration.
        rank, processes: which process of how many.
    """

    def __init__(self, first: int, last: int, batch: int, rank: int, processes: int) -> None:
        self._range = range(first, last)
        self._batch, self._rank, self._processes = batch, rank, processes

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in self._range:
            start = (iteration * self._processes + self._rank) * self._batch
            yield list(range(start, start + self._batch))


def collate(rows: Sequence[tuple[Tensor, Tensor, Tensor, str]]) -> Batch:
    """Samples as one batch; boxes and labels are padded to the largest number of objects."""
    images, boxes, labels, names = zip(*rows, strict=True)
    most = max(len(row) for row in labels)
    padded_boxes = torch.zeros(len(rows), most, 4)
    padded_labels = torch.full((len(rows), most), -1, dtype=torch.int64)
    for i, (row_boxes, row_labels) in enumerate(zip(boxes, labels, strict=True)):
        padded_boxes[i, : len(row_boxes)] = row_boxes
        padded_labels[i, : len(row_labels)] = row_labels
    return Batch(torch.stack(images), padded_boxes, padded_labels, names)


def stream(
    dataset: DetectionDataset,
    first: int,
    last: int,
    batch: int,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Stream[Batch]:
    """The batches of iterations `first` to `last` (excluded) for one process; see `BatchSampler`.

    Args:
        workers: processes that read and augment images; 0 does it in this process.
    """
    return Stream(
        DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=BatchSampler(first, last, batch, rank, processes),
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=prepare,
            pin_memory=torch.cuda.is_available(),
            # Spawned: a fork inherits OpenCV's and OpenMP's locks, but not the threads with them.
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=4 if workers else None,
        )
    )


def error_message(error: Exception) -> str:
    """The message of an error; without the worker's traceback that the DataLoader adds to it."""
    text = str(error)
    if text.startswith("Caught "):
        return text.rstrip().rpartition("\n")[2].partition(": ")[2]
    return text
