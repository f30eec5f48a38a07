# SPDX-License-Identifier: Apache-2.0
"""Batches of training examples, the same whatever the number of workers, processes and restarts.

Every example that a training draws has a number. The number alone decides which image it is and
how it is augmented, so that a run that is resumed, or spread over processes, sees the same ones.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ssd_ros.io import image_files
from training.data.augment import Augment
from training.data.voc import Annotation, Item, VOCError, find_classes, read_annotation, usable


@dataclass(frozen=True)
class Example:
    """One image with its objects.

    Attributes:
        item: where it comes from.
        labels: int64 (N,), 0-based class.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels, as written in the file.
        difficult: bool (N,).
        size: width and height that the annotation states, None where it does not.
    """

    item: Item
    labels: np.ndarray
    boxes: np.ndarray
    difficult: np.ndarray
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Batch:
    """Examples as the network takes them.

    Attributes:
        images: uint8 RGB (B, 300, 300, 3).
        boxes: float32 (B, M, 4) corners as fractions; zeros where there are fewer objects.
        labels: int64 (B, M), 0-based class; -1 where there are fewer objects.
        names: files of the images.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def pin_memory(self) -> Batch:
        return Batch(
            self.images.pin_memory(),
            self.boxes.pin_memory(),
            self.labels.pin_memory(),
            self.names,
        )


def load(
    items: Sequence[Item], classes: Sequence[str] | None = None
) -> tuple[list[Example], tuple[str, ...]]:
    """Reads the annotations of an image set.

    Args:
        items: the images.
        classes: names that are known; None to find them in the annotations.

    Returns:
        The examples in the order of the items, and the classes.

    Raises:
        VOCError: an annotation cannot be read, a class is not known, or there is no object at all.
    """
    progress = tqdm(items, desc="annotations", unit="file", disable=None, leave=False)
    annotations = [read_annotation(item.annotation) for item in progress]
    names = tuple(classes) if classes is not None else find_classes(annotations)
    if not any(annotation.names for annotation in annotations):
        raise VOCError(f"none of the {len(items)} images has an object")
    index = {name: i for i, name in enumerate(names)}
    return [
        _example(item, annotation, index)
        for item, annotation in zip(items, annotations, strict=True)
    ], names


def _example(item: Item, annotation: Annotation, index: dict[str, int]) -> Example:
    unknown = [name for name in annotation.names if name not in index]
    if unknown:
        raise VOCError(
            f"annotation '{item.annotation}' has the class '{unknown[0]}', "
            f"expected one of {', '.join(index)}"
        )
    labels = np.array([index[name] for name in annotation.names], np.int64)
    return Example(item, labels, annotation.boxes, annotation.difficult, annotation.size)


def dropped_boxes(examples: Sequence[Example]) -> Counter[str]:
    """How many boxes of each file cannot be trained on, judged by the sizes that they state."""
    everywhere = (2**20, 2**20)
    counts = {
        str(e.item.annotation): int((~usable(e.boxes, e.size or everywhere)[1]).sum())
        for e in examples
    }
    return Counter({name: count for name, count in counts.items() if count})


def sizes(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Width and height of each image, as stated, or else from the image."""
    return [e.size or image_files.read(e.item.image).shape[1::-1] for e in examples]


class Draws(Dataset[tuple[Tensor, Tensor, Tensor, str]]):
    """Training examples by their number in the run: image, boxes, labels, file name.

    Args:
        examples: the data set; each epoch takes every one once, in an order of its own.
        augment: see `training.data.augment`.
        seed: of the order and of the augmentation.
    """

    def __init__(self, examples: Sequence[Example], augment: Augment, seed: int) -> None:
        self._examples = examples
        self._augment = augment
        self._seed = seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def __getitem__(self, draw: int) -> tuple[Tensor, Tensor, Tensor, str]:
        example = self._examples[self._index(draw)]
        image = cv2.cvtColor(image_files.read(example.item.image), cv2.COLOR_BGR2RGB)
        boxes, good = usable(example.boxes, (image.shape[1], image.shape[0]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self._seed, draw))
            pixels, corners, labels = self._augment(image, boxes[good], example.labels[good])
        return pixels, corners, labels, str(example.item.image)

    def _index(self, draw: int) -> int:
        epoch, position = divmod(draw, len(self._examples))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(_mix(self._seed, -1 - epoch))
            self._order = epoch, torch.randperm(len(self._examples), generator=generator)
        return int(self._order[1][position])


def _mix(seed: int, number: int) -> int:
    """A seed for torch from two numbers; close numbers give seeds far apart."""
    words = np.random.SeedSequence([seed, number & (2**64 - 1)]).generate_state(2, np.uint32)
    return int(words[0]) << 32 | int(words[1])


class _DrawBatches:
    """Numbers of the draws of each batch of this process, from one iteration to the last.

    All processes together take `batch * processes` draws an iteration, so that two processes see
    what one sees with a batch twice as large.
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
    """Examples as one batch; images with fewer objects than others are padded."""
    images, boxes, labels, names = zip(*rows, strict=True)
    most = max(len(row) for row in labels)
    padded_boxes = torch.zeros(len(rows), most, 4)
    padded_labels = torch.full((len(rows), most), -1, dtype=torch.int64)
    for i, (row_boxes, row_labels) in enumerate(zip(boxes, labels, strict=True)):
        padded_boxes[i, : len(row_boxes)] = row_boxes
        padded_labels[i, : len(row_labels)] = row_labels
    return Batch(torch.stack(images), padded_boxes, padded_labels, names)


def loader(
    draws: Draws,
    first: int,
    last: int,
    batch: int,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> DataLoader[Batch]:
    """The batches of iterations `first` to `last` (excluded) for one process of several."""
    return DataLoader(
        draws,  # type: ignore[arg-type]
        batch_sampler=_DrawBatches(first, last, batch, rank, processes),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_prepare_worker,
        pin_memory=torch.cuda.is_available(),
        # Spawned: a fork inherits OpenCV's and OpenMP's locks, but not the threads holding them.
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )


def _prepare_worker(_worker: int) -> None:
    cv2.setNumThreads(1)
    # The trainer finishes its iteration and writes a checkpoint; it needs its workers until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def reason(error: Exception) -> str:
    """An error's message; of one that a worker raised without the worker's traceback."""
    text = str(error)
    if text.startswith("Caught "):
        return text.rstrip().rpartition("\n")[2].partition(": ")[2]
    return text
