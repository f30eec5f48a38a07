# SPDX-License-Identifier: Apache-2.0
"""Makes a trained network narrower and faster: python -m training.slim WEIGHTS --data DIR."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import choose_device
from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import multiply_adds
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.weights.native import config_from_text, config_to_text, write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights
from training import train
from training.data import voc
from training.data.samples import Sample, UnknownClassError, load
from training.evaluation import compared, speed
from training.slimming import activations, channels, losses, prune, sensitivity, targets
from training.trainer import options as training_options
from training.trainer import run_files

PLAN, PRUNED = "slim.json", "pruned.safetensors"
PRESET = ("--preset", "small", "--freeze", "")  # a pruned layer must be tuned, whichever it is


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.slim",
        description="Makes a trained network narrower and faster: takes out the channels that "
        "contribute least on training images, half of them at a time, and trains what is left "
        "after each step. A quarter of the channels is a sixteenth of the work. What it costs in "
        "accuracy depends on the dataset; the command measures it.",
        epilog="All other options are those of python -m training.train, for each step; default: "
        "--preset small, and nothing frozen.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("weights", help="weights file of a network with VGG16")
    add("--data", required=True, help="VOC-format folder, or VOCdevkit")
    add("--out", type=Path, required=True, help="output folder: a run as training.train's")
    wide = parser.add_mutually_exclusive_group(required=True)
    wide.add_argument(
        "--width", type=float, metavar="X", help="channel multiplier of the result; SSD300 has 1"
    )
    wide.add_argument(
        "--target-ms",
        type=float,
        metavar="X",
        help="the widest network that takes at most so many milliseconds an image on this machine",
    )
    wide.add_argument(
        "--target-flops",
        type=float,
        metavar="X",
        help="the widest with at most so many multiplications, each with an addition; SSD300 with "
        "20 classes has 31e9",
    )
    add(
        "--target-precision",
        default="int8",
        choices=("fp32", "bf16", "int8"),
        help="for --target-ms (default: %(default)s, as training.quantize makes it)",
    )
    add("--threads", type=int, default=0, metavar="N", help="for --target-ms; 0: every core")
    add(
        "--sensitivity",
        action="store_true",
        help="first measure what each layer's channels are worth, and take more from layers that "
        "lose little, at the same number of multiplications (not exactly the same time)",
    )
    add(
        "--images",
        type=int,
        default=128,
        metavar="N",
        help="training images on which channels are ranked (default: %(default)s)",
    )
    add("--resume", action="store_true", help="continue what is in --out")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.

    Returns:
        The exit status: 0, 1 after an error, or 128 + the number of the signal that stopped it.
    """
    options, rest = argument_parser().parse_known_args(arguments)
    try:
        given = [*PRESET, "--data", options.data, *rest]
        run = training_options.resolve([*given, "--out", str(options.out)])
        if options.images < 1:
            raise ValueError(f"--images must be at least 1, got {options.images}")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("training.slim runs in one process; start it without torchrun")
        data = train.load_data(run)
        plan = read_plan(options) or make_plan(options, run, data.samples)
        configs = [config_from_text(text) for text in plan["steps"]]
        files, source = [options.weights], options.weights
        for number, config in enumerate(configs, start=1):
            folder = options.out / f"step{number}" if number < len(configs) else options.out
            start = folder / PRUNED
            if not start.exists():
                write(start, pruned(read(source), config, data.samples, options, run))
            resume = ["--resume"] if (folder / run_files.RUN_INFO).exists() else []
            command = [*given, "--out", str(folder), "--init", str(start), *resume]
            if status := train.main(command):
                return status
            # Not the best: the validation images would have a say in the next step.
            source = folder / run_files.LAST
            files += [start, source]
        files[-1] = options.out / run_files.BEST
        print(compare(files, run))
    except (ValueError, OSError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_plan(options: argparse.Namespace) -> dict[str, Any] | None:
    """The plan in --out, None where there is none.

    Raises:
        ValueError: --resume is missing, or the plan is of other weights, or broken.
    """
    path = options.out / PLAN
    if not path.exists():
        if options.resume:
            raise ValueError(f"'{options.out}' holds no {PLAN}; omit --resume to start one there")
        return None
    if not options.resume:
        raise ValueError(
            f"'{options.out}' holds a run; continue with --resume, or choose another --out"
        )
    try:
        plan = dict(json.loads(path.read_text()))
        for text in plan["steps"]:
            config_from_text(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is not a plan of training.slim: {error!r}") from None
    asked = _asked(options)
    if plan.get("asked") != asked:
        raise ValueError(f"'{path}' is for {plan.get('asked')}, not for {asked}")
    return plan


def make_plan(
    options: argparse.Namespace, run: training_options.Options, samples: Sequence[Sample]
) -> dict[str, Any]:
    """How many channels are left after each step; written to --out."""
    weights = read(options.weights)
    channels.readers(weights.config)  # refuses what cannot be pruned
    target = _target(options, weights)
    if options.sensitivity:
        device = choose_device(run.device)
        moments = activations.measure(
            weights.model().to(device), choose_images(samples, options.images, run.seed)
        )
        known, _ = load(
            [s.record for s in samples], weights.classes, run.exif_view, train.chosen_classes(run)
        )
        costs = sensitivity.measure(weights, moments, losses.mean_loss(known, run.seed, device))
        print(sensitivity.format_table(weights.config, costs), file=sys.stderr)
        limit = multiply_adds(target, 1)
        target = sensitivity.allocate(weights.config, costs, limit)
    steps = channels.halvings(weights.config, target)
    plan = {"asked": _asked(options), "steps": [config_to_text(config) for config in steps]}
    atomic.write(options.out / PLAN, (json.dumps(plan, indent=2) + "\n").encode())
    return plan


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """What a plan depends on."""
    names = ("width", "target_ms", "target_flops", "target_precision", "sensitivity", "images")
    return {"weights": str(options.weights), **{name: getattr(options, name) for name in names}}


def _target(options: argparse.Namespace, weights: Weights) -> SSDConfig:
    """The configuration that --width, --target-ms or --target-flops ask for.

    Raises:
        ValueError: there is none, or it is not narrower than the weights.
    """
    count = len(weights.classes)
    if options.width is not None:
        target = channels.narrower(weights.config, options.width)
    elif options.target_flops is not None:
        target = targets.widest(
            weights.config, lambda c: multiply_adds(c, count), options.target_flops
        )
    else:
        how = BackendOptions("auto", "cpu", options.target_precision, options.threads)
        cost = functools.partial(targets.milliseconds, classes=count, options=how)
        target = targets.widest(weights.config, cost, options.target_ms)
    if target == weights.config:
        raise ValueError(f"'{options.weights}' is already as narrow as that")
    return target


def choose_images(samples: Sequence[Sample], count: int, seed: int) -> list[Path]:
    """Image files to rank channels on, in random order."""
    order = np.random.default_rng(seed).permutation(len(samples))
    return [samples[i].record.image for i in order[:count]]


def pruned(
    weights: Weights,
    config: SSDConfig,
    samples: Sequence[Sample],
    options: argparse.Namespace,
    run: training_options.Options,
) -> Weights:
    """The weights with the channels of a configuration, and a note of where they come from."""
    model = weights.model().to(choose_device(run.device))
    moments = activations.measure(model, choose_images(samples, options.images, run.seed))
    keep = prune.choose(prune.importance(weights, moments), config)
    note = {"pruned_from": dict(weights.training), "width": config.width}
    return replace(prune.prune(weights, keep, moments), training=note)


def compare(files: Sequence[str | Path], run: training_options.Options) -> str:
    """A table of the networks: size, work, time in fp32, and mAP."""
    how = BackendOptions("auto", "auto", "fp32")
    networks = [replace(read(file), quantisation=None) for file in files]
    rows = [f"{'':<40} {'MB':>6} {'GMACs':>6} {'ms':>7}  mAP (VOC2007)"]
    costs = compared.costs(networks, how)
    for file, weights, cost in zip(files, networks, costs, strict=True):
        figures = f"{cost.megabytes:6.1f} {cost.multiplications:6.2f} {cost.milliseconds:7.1f}"
        rows.append(f"{str(file)[-40:]:<40} {figures}  {_score(weights, how, run)}")
    return "\n".join(rows)


def _score(weights: Weights, how: BackendOptions, run: training_options.Options) -> str:
    if run.val_sets == "none":
        return "-"
    records = voc.find_images(Path(run.data), run.val_sets)
    try:
        samples, _ = load(records, weights.classes, run.exif_view, train.chosen_classes(run))
    except UnknownClassError:
        return "- (has other classes)"
    try:
        return f"{speed.mean_ap(samples, how, weights):.4f}"
    except speed.UndefinedError:
        return "- (no object counts)"


if __name__ == "__main__":
    sys.exit(main())
