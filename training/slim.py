# SPDX-License-Identifier: Apache-2.0
"""Makes a trained network narrower and faster: python -m training.slim WEIGHTS --data DIR."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import choose_device
from ssd_ros.command_line import plural
from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import multiply_adds
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.weights.native import write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights
from training import train
from training.data import soundness, voc
from training.data.samples import Sample, TrainingData, load
from training.slimming import (
    arguments,
    channels,
    losses,
    narrowing,
    plan,
    sensitivity,
    targets,
)
from training.slimming.table import Validation, table
from training.trainer import options as training_options
from training.trainer import pretrained, run_files
from training.trainer.optimizer import choose_precision
from training.trainer.options import Options

_FEW = 8  # images with which single layers are tried, each some seventy times
# A pruned layer must be tuned, whichever it is.
PRESET = ("--preset", "small", "--freeze", "", "--iterations", "860")


def main(given: Sequence[str] | None = None) -> int:
    """The command.

    Returns:
        The exit status: 0, 1 after an error, or 128 + the number of the signal that stopped it.
    """
    options, rest = arguments.parser().parse_known_args(given)
    try:
        return slim(options, rest)
    except (ValueError, OSError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while measuring; a training ends by itself, with a checkpoint
        begun = (options.out / plan.PLAN).exists()
        print(f"interrupted{'; continue with --resume' if begun else ''}", file=sys.stderr)
        return 128 + signal.SIGINT


def slim(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prunes and trains step by step, and prints the table.

    Args:
        options: of this command.
        rest: options of training.train.

    Returns:
        The exit status of the training that was stopped or failed, else 0.

    Raises:
        ValueError, OSError, NotFiniteError: an option, weights or the dataset cannot be used.
    """
    arguments.check(options, rest)
    given = [*PRESET, "--data", options.data, *rest]
    run = training_options.resolve(
        [*given, "--init", options.weights, "--width", "0", "--out", str(options.out)]
    )
    data = train.load_data(run)
    steps = find_plan(options, run, data)
    folders = steps.folders(options.out)
    source, files = options.weights, [options.weights]
    for number, (folder, config) in enumerate(zip(folders, steps.steps, strict=True), start=1):
        start = folder / plan.PRUNED
        if not start.exists():
            print(f"step {number} of {len(folders)}: {channels.describe(config)}", file=sys.stderr)
            files_to_rank = images(data.samples, options.images, run)
            write(start, pruned(read(source), config, files_to_rank, choose_device(run.device)))
        # Where the next step has begun, more training would not reach it.
        if not any((later / plan.PRUNED).exists() for later in folders[number:]):
            own = ["--out", str(folder)]
            if (folder / run_files.RUN_INFO).exists():
                own.append("--resume")
            if not (folder / run_files.CHECKPOINT).exists():  # it has them, and maybe other paths
                own += ["--init", str(start), "--width", "0"]
            if status := train.main([*given, *own]):
                return status
        # Not the best: the validation images would have a say in the next step.
        source = folder / run_files.LAST
        files += [start, source]
    files[-1] = options.out / run_files.BEST
    print("measuring the networks for the table", file=sys.stderr)
    records, only = [sample.record for sample in data.val_samples], train.chosen_classes(run)
    print(table(files, Validation(records, data.classes, run.exif_view, only)))
    return 0


def find_plan(options: argparse.Namespace, run: Options, data: TrainingData) -> plan.Plan:
    """The plan in --out, or a new one that is written there.

    Raises:
        ValueError, OSError: --resume is missing or too much, the options differ from those of the
            run to resume, or the run cannot begin.
    """
    names = (*arguments.TARGETS, "target_precision", "sensitivity", "images", "steps")
    asked = {"weights": options.weights, **{name: getattr(options, name) for name in names}}
    digest = plan.digest(options.weights)
    found = plan.read(options.out)
    if options.resume:
        if found is None:
            raise ValueError(
                f"'{options.out}' holds no {plan.PLAN}; omit --resume to start one there"
            )
        found.check(asked, run, digest)
        return found
    if found is not None:
        raise ValueError(
            f"'{options.out}' holds a run; continue with --resume, or choose another --out"
        )
    plan.check_unused(options.out)
    weights = read(options.weights)
    check_training(options, weights, run, data)
    target = choose_channels(options, weights, run, data)
    configs = channels.steps(weights.config, target, options.steps)
    made = plan.Plan(asked, tuple(configs), training_options.as_dict(run), digest)
    plan.write(options.out, made)
    before = channels.describe(weights.config)
    print(f"from {before} in {plural(len(configs), 'step')}", file=sys.stderr)
    return made


def check_training(
    options: argparse.Namespace, weights: Weights, run: Options, data: TrainingData
) -> None:
    """Checks what the trainings would refuse, before minutes are spent on measurements.

    Raises:
        ValueError, OSError: the weights cannot be pruned, or an option cannot be used.
    """
    try:
        channels.readers(weights.config)
    except ValueError as error:
        raise ValueError(f"'{options.weights}': {error}") from None
    choose_precision(run.precision, choose_device(run.device))
    soundness.check_boxes(data.samples, data.classes)
    pretrained.layers(weights.model(), run.freeze)
    missing = [name for name in data.classes if name not in weights.classes]
    if options.sensitivity and missing:
        raise ValueError(
            f"--sensitivity measures the loss of '{options.weights}', which has no class "
            f"'{missing[0]}' (of the dataset) but {', '.join(weights.classes)}; omit it, or choose "
            "classes that it has with --classes"
        )


def choose_channels(
    options: argparse.Namespace, weights: Weights, run: Options, data: TrainingData
) -> SSDConfig:
    """The configuration that --width, --target-ms or --target-flops, and --sensitivity ask for.

    Raises:
        ValueError: there is none, or it is not narrower than the weights.
    """
    config, classes = weights.config, len(weights.classes)
    name = next(name for name in arguments.TARGETS if getattr(options, name) is not None)
    try:
        target = _target(options, config, classes)
    except ValueError as error:
        flag = f"--{name.replace('_', '-')} {getattr(options, name):g}"
        raise ValueError(f"{flag}: {error}") from None
    if not options.sensitivity:
        return target
    limit = multiply_adds(target, classes)
    sensitivity.check_limit(config, limit, classes)
    device = choose_device(run.device)
    files = images(data.samples, min(options.images, _FEW), run)
    records, only = [sample.record for sample in data.samples], train.chosen_classes(run)
    samples, _ = load(records, weights.classes, run.exif_view, only)
    loss = losses.mean_loss(samples, run.seed, device)
    costs = sensitivity.measure(narrowing.measure(weights, files, device), loss)
    found = sensitivity.allocate(config, costs, limit, classes)
    print(sensitivity.format_table(config, costs, found), file=sys.stderr)
    return found


def _target(options: argparse.Namespace, config: SSDConfig, classes: int) -> SSDConfig:
    if options.width is not None:
        return targets.of_width(config, options.width)
    if options.target_flops is not None:
        return targets.widest(
            config, lambda c: multiply_adds(c, classes), options.target_flops, "multiply-adds"
        )
    how = BackendOptions("auto", "cpu", options.target_precision, options.threads)
    unit = f"ms an image in {options.target_precision}"
    cost = targets.printed(lambda c: targets.milliseconds(c, classes, how), unit)
    return targets.widest(config, cost, options.target_ms, unit)


def images(samples: Sequence[Sample], count: int, run: Options) -> list[Path]:
    """Image files on which channels are ranked."""
    return voc.choose_images([sample.record for sample in samples], count, run.seed)


def pruned(
    weights: Weights, config: SSDConfig, files: Sequence[Path], device: torch.device
) -> Weights:
    """The narrower network with a note of where it comes from; see `narrowing.narrow`."""
    note = {"pruned_from": dict(weights.training), "width": config.width}
    narrow = narrowing.narrow(narrowing.measure(weights, files, device), config)
    return replace(narrow, training=note)


if __name__ == "__main__":
    sys.exit(main())
