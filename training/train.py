# SPDX-License-Identifier: Apache-2.0
"""Trains SSD: python -m training.train --data DIR --out runs/NAME; the same under torchrun."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.model.ssd import SSD
from training.data import batches, samples, voc
from training.data.augment import Augment
from training.data.dataset import DetectionDataset
from training.data.samples import TrainingData
from training.trainer import batch_norm, box_scales, class_heads, options, pretrained, run_files
from training.trainer.distributed import Processes, is_main
from training.trainer.ema import create_ema
from training.trainer.optimizer import create_optimizer
from training.trainer.options import Options
from training.trainer.trainer import NotFinite, Trainer


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.

    Args:
        arguments: the command line; None for the process's own.

    Returns:
        The exit status: 0, 1 after an error, or 128 + the number of the signal that stopped it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        run, checkpoint = read_options(given)
        processes = Processes(run.device)
        trainer = create_trainer(run, processes)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        metrics = start_session(trainer, given)
        received = trainer.fit(create_stream(trainer), metrics)
        processes.close()
    except (ValueError, OSError, NotFinite, NotFiniteError) as error:
        print(f"error: {batches.error_message(error)}", file=sys.stderr)
        return 1
    if received:
        print(f"stopped by signal {received}; continue with --resume", file=sys.stderr)
        return 128 + received
    if processes.is_main:
        print(
            f"done: {trainer.out / run_files.BEST}\n"
            f"create a report: python -m training.report {trainer.out}",
            file=sys.stderr,
        )
    return 0


def read_options(given: Sequence[str]) -> tuple[Options, dict[str, Any] | None]:
    """The options of the run, and the checkpoint to continue from, if any.

    Raises:
        ValueError: an option is wrong, or the run exists and --resume is not given.
    """
    out, resume = options.peek(given)
    checkpoint = run_files.read_checkpoint(out) if out else None
    if checkpoint is not None and not resume:
        raise ValueError(f"'{out}' holds a run; continue with --resume, or choose another --out")
    return options.resolve(given, checkpoint["options"] if checkpoint else None), checkpoint


def create_trainer(run: Options, processes: Processes) -> Trainer:
    """Everything that a run needs, at iteration 0.

    Raises:
        ValueError, OSError: the dataset or the pretrained weights cannot be used.
    """
    torch.manual_seed(run.seed)
    data = load_data(run)
    if processes.is_main:
        warn_of_degenerate_boxes(data)
    model = create_model(run, data)
    frozen = pretrained.freeze(model, pretrained.layers(model, run.freeze))
    model.to(processes.device).to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, run)
    return Trainer(run, processes, data, model, frozen, optimizer, create_ema(model, run.ema))


def load_data(run: Options) -> TrainingData:
    """Training and validation images with their annotations."""
    names = [name.strip() for name in run.classes.split(",")] if run.classes else None
    train, classes = samples.load(voc.find_images(Path(run.data), run.sets), names)
    if run.val_sets == "none":
        return TrainingData(train, [], classes)
    records = voc.find_images(Path(run.data), run.val_sets)
    return TrainingData(train, samples.load(records, classes)[0], classes)


def warn_of_degenerate_boxes(data: TrainingData) -> None:
    """Prints how many boxes training ignores, and the first files that have them."""
    degenerate = samples.degenerate_boxes(data.samples)
    if degenerate:
        print(
            f"warning: {degenerate.total()} degenerate boxes (zero area) ignored, in "
            f"{', '.join(list(degenerate)[:3])}{' …' if len(degenerate) > 3 else ''}; "
            "see python -m training.voc check",
            file=sys.stderr,
        )


def create_model(run: Options, data: TrainingData) -> SSD:
    """The network on the CPU, initialised randomly or with pretrained weights."""
    source = pretrained.read(run.init) if run.init else None
    config = source.config if source else PAPER_VOC
    if not (source and source.classes):  # a detector's heads only fit its own default boxes
        config = box_scales.with_scales(config, run.boxes, data.samples)
    model = SSD(len(data.classes), run.width, config)
    pretrained.zero_init_heads(model)
    if run.batch_norm:
        batch_norm.add(model)
    if source:
        pretrained.apply(model, source, data.classes, pretrained.layers(model, run.init_layers))
        if source.classes and not run.init_layers and is_main():
            print(f"--init: {class_heads.describe(data.classes, source.classes)}", file=sys.stderr)
    return model


def start_session(trainer: Trainer, given: Sequence[str]) -> run_files.Metrics:
    """Records this session in the run's folder and prints a summary; rank 0 only."""
    run, processes, data = trainer.run, trainer.processes, trainer.data
    iteration = trainer.progress.iteration
    if processes.is_main:
        device = f"{processes.count} x {processes.device_name}"
        stored = options.as_dict(run)
        run_files.add_session(trainer.out, iteration, given, stored, data.classes, device)
        print(
            f"{len(data.samples)} images, {len(data.classes)} classes "
            f"({', '.join(data.classes)}), {device}, "
            f"{str(trainer.dtype).split('.')[-1]}, iterations {iteration} to {run.iterations}",
            file=sys.stderr,
        )
    return run_files.Metrics(trainer.out, iteration, run.tensorboard, processes.is_main)


def create_stream(trainer: Trainer) -> Iterator[batches.Batch]:
    """The batches of this process, from the trainer's iteration to the last."""
    run, processes = trainer.run, trainer.processes
    config = trainer.model.config
    augment = Augment(run.augment, tuple(255 * value for value in config.mean), config.input_size)
    return iter(
        batches.loader(
            DetectionDataset(trainer.data.samples, augment, run.seed),
            trainer.progress.iteration * run.accumulate,
            run.iterations * run.accumulate,
            run.batch // run.accumulate,
            run.workers,
            processes.rank,
            processes.count,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
