# SPDX-License-Identifier: Apache-2.0
"""Trains SSD: python -m training.train --data DIR --out runs/NAME; the same under torchrun."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ssd_ros.backends.pytorch import choose_device
from ssd_ros.command_line import plural
from ssd_ros.model import resnet50
from ssd_ros.model.config import PAPER_VOC, RESNET50, SSDConfig
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.native import config_from_text
from ssd_ros.weights.weights import check_class_names
from training.data import batches, loss_objects, samples, soundness, voc
from training.data.augment import Augment
from training.data.dataset import DetectionDataset
from training.data.samples import TrainingData
from training.data.workers import Stream, WorkerLost
from training.slimming import features
from training.trainer import (
    batch_norm,
    box_scales,
    class_heads,
    options,
    pretrained,
    run_files,
)
from training.trainer.distributed import Processes, is_main
from training.trainer.ema import create_ema
from training.trainer.lock import locked
from training.trainer.optimizer import choose_precision, create_optimizer
from training.trainer.options import Options
from training.trainer.trainer import NotFinite, Trainer

_IMAGES_TO_RANK = 32  # training images on which the channels of wider features are ranked
_NO_MEMORY = re.compile("out of memory|can't allocate memory")  # of CUDA, of the CPU


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
        trainer = create_trainer(run, processes, checkpoint)
        with locked(trainer.out, processes.is_main):
            metrics = start_session(trainer, given)
            with create_stream(trainer) as stream:
                received = trainer.fit(stream, metrics)
        processes.close()
    except (ValueError, OSError, NotFinite, NotFiniteError, WorkerLost) as error:
        print(f"error: {batches.error_message(error)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(text):
            raise
        print(
            f"error: out of memory ({text[:200]}); a run with a smaller --batch, or the same in "
            "more --accumulate parts, needs less",
            file=sys.stderr,
        )
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
        ValueError: an option is wrong, the run exists and --resume is not given, or the other way
            round.
    """
    out, resume = options.peek(given)
    checkpoint = run_files.read_checkpoint(out) if out else None
    if checkpoint is not None and not resume:
        raise ValueError(f"'{out}' holds a run; continue with --resume, or choose another --out")
    if resume and checkpoint is None and out and not (out / run_files.RUN_INFO).exists():
        raise ValueError(f"'{out}' holds no run to resume; omit --resume to start one there")
    run = options.resolve(given, checkpoint["options"] if checkpoint else None)
    if checkpoint and run.iterations < checkpoint["progress"]["iteration"]:
        raise ValueError(
            f"--iterations {run.iterations} is less than the {checkpoint['progress']['iteration']} "
            "that the run to resume has done"
        )
    return run, checkpoint


def create_trainer(
    run: Options, processes: Processes, checkpoint: Mapping[str, Any] | None = None
) -> Trainer:
    """Everything that a run needs, at iteration 0 or that of the checkpoint.

    Raises:
        ValueError, OSError: dataset, pretrained weights or checkpoint cannot be used.
    """
    torch.manual_seed(run.seed)
    run = replace(run, precision=choose_precision(run.precision, processes.device))
    data = load_data(run)
    soundness.check_boxes(data.samples, data.classes)
    model = create_model(run, data, checkpoint)
    lost = loss_objects.find_lost(data.samples, model.config)
    texts = loss_objects.describe(lost, data.samples, data.classes)
    if processes.is_main:
        warn(run, data, processes, checkpoint, texts)
    frozen = pretrained.freeze(model, pretrained.layers(model, run.freeze))
    model.to(processes.device).to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, run)
    ema = create_ema(model, run.ema)
    trainer = Trainer(run, processes, data, model, frozen, optimizer, ema)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    elif run.init:
        trainer.ancestry = pretrained.ancestry(run.init)
    return trainer


def chosen_classes(run: Options) -> list[str] | None:
    """The names of --classes; None for all."""
    return [name.strip() for name in run.classes.split(",")] if run.classes else None


def load_data(run: Options) -> TrainingData:
    """Training and validation images with their annotations."""
    names = chosen_classes(run)
    if names:
        check_class_names(names)
    records = voc.find_images(Path(run.data), run.sets)
    train, classes = samples.load(records, names, run.exif_view, names)
    if run.val_sets == "none":
        return TrainingData(train, [], classes)
    records = voc.find_images(Path(run.data), run.val_sets)
    try:
        validation, _ = samples.load(records, classes, run.exif_view, names)
    except samples.UnknownClassError as error:
        raise voc.VOCError(
            f"--val-sets: {error}. No image of --sets {run.sets} has this class: move some there, "
            f"or ignore it with --classes {','.join(classes)}"
        ) from None
    return TrainingData(train, validation, classes)


def warn(
    run: Options,
    data: TrainingData,
    processes: Processes,
    checkpoint: Mapping[str, Any] | None,
    lost: Sequence[str],
) -> None:
    """Prints what makes results worse or different without being an error.

    Args:
        lost: which objects are in no loss, as `loss_objects.describe` says it.
    """
    texts = [*soundness.find_warnings(data.samples), *lost]
    if data.val_samples:
        found = soundness.find_warnings_of_validation(data.val_samples)
        texts += [f"--val-sets: {text}" for text in found]
    seen = run.iterations * run.batch * processes.count
    if seen < len(data.samples):
        texts.append(
            f"only {seen} of {len(data.samples)} images are used in {run.iterations} iterations of "
            f"batch size {run.batch}"
        )
    began_on = (checkpoint or {}).get("device", processes.device.type)
    if began_on != processes.device.type:
        texts.append(
            f"the run began on {began_on}, continues on {processes.device.type} in "
            f"{run.precision}: not exactly as it would have continued there"
        )
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)


def create_model(
    run: Options, data: TrainingData, checkpoint: Mapping[str, Any] | None = None
) -> SSD:
    """The network on the CPU, initialised randomly or with pretrained weights.

    Args:
        checkpoint: whose weights will follow; the network has its configuration and layers.
    """
    config = (checkpoint or {}).get("config")
    source = _read_init(run, data) if run.init and config is None else None
    model = SSD(len(data.classes), *_configuration(run, data, source, config))
    pretrained.zero_init_heads(model)
    if checkpoint is not None:
        batch_norm.add(model, batch_norm.layers(checkpoint["model"]))
    elif run.batch_norm:
        batch_norm.add(model)
    elif model.config.backbone == "resnet50" and not (source and source.folded):
        batch_norm.add(model, resnet50.BASE)
    if source:
        pretrained.apply(model, source, data.classes, pretrained.layers(model, run.init_layers))
        if source.classes and not run.init_layers and is_main():
            print(f"--init: {class_heads.describe(data.classes, source.classes)}", file=sys.stderr)
    return model


def _read_init(run: Options, data: TrainingData) -> pretrained.Pretrained:
    """The pretrained weights; features of VGG16 with the channels that --width asks for.

    Raises:
        ValueError: they cannot be used, or are of another base network than --base.
    """
    source = pretrained.read(run.init)
    if run.base not in ("auto", source.config.backbone):
        raise ValueError(
            f"--base {run.base} differs from --init {run.init}, which has {source.config.backbone}"
        )
    backbone = source.classes is None and source.config.backbone == "vgg16"
    if not backbone or run.width in (0, source.config.width):
        return source
    files = [sample.record.image for sample in data.samples[:_IMAGES_TO_RANK]]
    return features.narrow(source, run.width, files, choose_device(run.device))


def _configuration(
    run: Options, data: TrainingData, source: pretrained.Pretrained | None, config: str | None
) -> tuple[float | None, SSDConfig]:
    """Width and configuration of the network, the width None where the configuration has it."""
    if config is not None:
        return None, config_from_text(config)
    if source and source.classes:  # a detector's heads only fit its own default boxes
        return run.width or None, source.config
    initial = RESNET50 if run.base == "resnet50" else PAPER_VOC
    initial = source.config if source else initial
    return run.width or initial.width, box_scales.with_scales(initial, run.boxes, data.samples)


def start_session(trainer: Trainer, given: Sequence[str]) -> run_files.Metrics:
    """Records this session in the run's folder and prints a summary; rank 0 only."""
    run, processes, data = trainer.run, trainer.processes, trainer.data
    iteration = trainer.progress.iteration
    if processes.is_main:
        device = f"{processes.count} x {processes.device_name}"
        stored = options.as_dict(run)
        count_classes = f"{len(data.classes)} class{'es' if len(data.classes) > 1 else ''}"
        run_files.add_session(trainer.out, iteration, given, stored, data.classes, device)
        print(
            f"{plural(len(data.samples), 'image')}, {count_classes} "
            f"({', '.join(data.classes)}), {device}, "
            f"{str(trainer.dtype).split('.')[-1]}, iterations {iteration} to {run.iterations}",
            file=sys.stderr,
        )
    return run_files.Metrics(trainer.out, iteration, run.tensorboard, processes.is_main)


def create_stream(trainer: Trainer) -> Stream[batches.Batch]:
    """The batches of this process, from the trainer's iteration to the last."""
    run, processes = trainer.run, trainer.processes
    config = trainer.model.config
    augment = Augment(run.augment, tuple(255 * value for value in config.mean), config.input_size)
    return batches.stream(
        DetectionDataset(trainer.data.samples, augment, run.seed),
        trainer.progress.iteration * run.accumulate,
        run.iterations * run.accumulate,
        run.batch // run.accumulate,
        run.workers,
        processes.rank,
        processes.count,
    )


if __name__ == "__main__":
    sys.exit(main())
