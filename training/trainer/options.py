# SPDX-License-Identifier: Apache-2.0
"""The options of a training: one table, and presets of their values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ssd_ros.backends.pytorch import PRECISIONS
from ssd_ros.command_line import ClassNames
from training.data import exif_view
from training.data.augment import CHOICES


def _option(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class Options:
    """All options of a training; the defaults are the paper's (section 3.1).

    `free` options do not change the result and may differ when a run is resumed.

    Raises:
        ValueError: a value is missing or out of range.
    """

    data: str = _option("", "VOC-format folder, or VOCdevkit")
    out: str = _option("", "output folder of the run: weights, checkpoint, metrics")
    sets: str = _option("trainval", "training image sets, joined by +")
    val_sets: str = _option("test", "validation image sets, joined by +; none disables validation")
    classes: str = _option(
        "",
        "class names, comma-separated, objects of others being ignored; empty: all that the "
        "annotations contain",
    )
    exif_view: str = _option("auto", exif_view.HELP, choices=exif_view.CHOICES)

    base: str = _option(
        "auto",
        "base network; auto: that of --init, vgg16 without it",
        choices=("auto", "vgg16", "resnet50"),
    )
    width: float = _option(0.0, "channel multiplier of the network; 0: that of --init, else 1")
    boxes: str = _option(
        "voc",
        "scales of the default boxes: the paper's for voc, for coco (smaller objects), or auto: "
        "those that fit the data better. Ignored if --init is a detector, which keeps its own",
        choices=("voc", "coco", "auto"),
    )
    batch_norm: bool = _option(
        False,
        "batch normalisation, for training from scratch; folded into the saved weights. The base "
        "network resnet50 has its own unless --init has it folded",
    )
    init: str = _option(
        "",
        "pretrained weights: vgg16 or resnet50 (downloaded), a file of torchvision's VGG16 "
        "features or ResNet-50, or any weights file",
    )
    init_layers: str = _option("", "layers to load from --init, comma-separated; empty: all")
    freeze: str = _option("", "layers that are not trained, comma-separated")

    iterations: int = _option(
        120_000,
        "optimiser steps; another number when a run is resumed makes it longer or shorter, with "
        "the learning rate of its place in the new schedule",
        free=True,
    )
    batch: int = _option(32, "batch size per process")
    accumulate: int = _option(1, "gradient accumulation steps per batch")
    optimizer: str = _option("sgd", "sgd (momentum 0.9) or adamw", choices=("sgd", "adamw"))
    lr: float = _option(1e-3, "learning rate")
    base_lr: float = _option(1.0, "learning-rate multiplier of the backbone (conv1 to conv5)")
    weight_decay: float = _option(
        5e-4, "weight decay of kernels; biases and normalisation have none"
    )
    schedule: str = _option(
        "steps",
        "learning-rate schedule. steps: a tenth after 2/3 and a hundredth after 5/6 of the "
        "iterations; cosine: to zero",
        choices=("steps", "cosine"),
    )
    warmup: int = _option(500, "iterations of linear warm-up, at most an eighth of --iterations")
    clip: float = _option(10.0, "maximum gradient norm")
    ema: float = _option(
        0.0, "decay of the weights' exponential moving average, 0 to below 1; 0 disables it"
    )
    augment: str = _option(
        "ssd", "augmentation: none, light (flip and colours) or ssd (the paper's)", choices=CHOICES
    )
    seed: int = _option(0, "random seed (initialisation, shuffling, augmentation)")

    precision: str = _option("auto", "data type of the computation", choices=("auto", *PRECISIONS))
    device: str = _option("auto", "auto, cpu, cuda, cuda:N", free=True)
    workers: int = _option(1, "data loading processes; 0: in the main process", free=True)
    validate_every: int = _option(5000, "iterations between validations", free=True)
    checkpoint_every: int = _option(500, "iterations between checkpoints", free=True)
    store: str = _option(
        "fp32", "data type of the saved weights", choices=("fp32", "fp16"), free=True
    )
    tensorboard: bool = _option(False, "also write TensorBoard events", free=True)
    resume: bool = _option(False, "continue from the last checkpoint in --out", free=True)

    def __post_init__(self) -> None:
        for name in ("data", "out"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed")
        for name in ("iterations", "batch", "accumulate", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{_flag(name)} must be at least 1, got {getattr(self, name)}")
        if self.batch % self.accumulate:
            raise ValueError(f"--accumulate {self.accumulate} must divide --batch {self.batch}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "workers", "weight_decay", "base_lr"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"--{_flag(name)} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.width <= 4:
            raise ValueError(f"--width must be from 0 to 4, got {self.width}")
        if self.freeze and not self.init:
            raise ValueError(
                f"--freeze {self.freeze} needs --init: random layers must be trained. If "
                "a preset freezes them, --freeze= does not"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema must be from 0 to below 1, got {self.ema}")


# They do not change the result.
_FREE = {option.name for option in fields(Options) if option.metadata.get("free")} | {"out"}

_SMALL: dict[str, Any] = {
    "init": "vgg16",
    "boxes": "auto",
    "freeze": "conv1,conv2",  # as in the paper's own code
    "iterations": 430,
    "batch": 8,
    "optimizer": "adamw",
    "lr": 2e-4,
    "base_lr": 0.5,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 50,
    "ema": 0.99,
    "augment": "light",  # a dozen epochs are too few to learn from crops and expansions
    "validate_every": 215,
    "checkpoint_every": 50,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # A few hundred images, a pretrained backbone, minutes.
    "small": _SMALL,
    # The same for a robot without a GPU. Of pruned features every layer must be tuned.
    "narrow": {**_SMALL, "width": 0.25, "freeze": "", "iterations": 1290},
    # A narrow network from scratch: how the demo's weights were made.
    "demo": {
        "width": 0.25,
        "batch_norm": True,
        "iterations": 900,
        "batch": 16,
        "optimizer": "adamw",
        "lr": 2e-3,
        "weight_decay": 0.02,
        "schedule": "cosine",
        "warmup": 100,
        "ema": 0.995,
        "augment": "light",
        "precision": "fp32",  # bf16 gains nothing on so few channels
        "validate_every": 300,
        "checkpoint_every": 50,
        "store": "fp16",
    },
}


def parser(command: str = "training.train", usage: str | None = None) -> argparse.ArgumentParser:
    """The command line; options that are not given are absent from the result.

    Args:
        command: module that errors name.
        usage: printed before them; None for all options.
    """
    result = argparse.ArgumentParser(
        prog=f"python -m {command}",
        usage=usage,
        description="Trains SSD on a VOC-format dataset; also under torchrun.",
        argument_default=argparse.SUPPRESS,
    )
    result.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="default values of all other options: "
        + "; ".join(f"{name}: {_words(values)}" for name, values in PRESETS.items()),
    )
    for option in fields(Options):
        help = f"{option.metadata['help']} (default: {option.default!r})".replace("%", "%%")
        flag = f"--{_flag(option.name)}"
        if option.name == "classes":
            result.add_argument(flag, action=ClassNames, help=help)
        elif isinstance(option.default, bool):
            result.add_argument(flag, action=argparse.BooleanOptionalAction, help=help)
        else:
            result.add_argument(
                flag,
                type=type(option.default),
                choices=option.metadata.get("choices"),
                metavar=None if "choices" in option.metadata else type(option.default).__name__,
                help=help,
            )
    return result


def resolve(arguments: Sequence[str] | None, stored: dict[str, Any] | None = None) -> Options:
    """The options of a run: preset, command line and, on resuming, those of the checkpoint.

    Args:
        arguments: the command line; None for the process's own.
        stored: options of the run to resume; the command line may change only `free` ones.

    Raises:
        ValueError: a value is out of range, or differs from the stored one.
    """
    given = vars(parser().parse_args(arguments))
    if "classes" in given:
        given["classes"] = ",".join(given["classes"])
    preset = PRESETS[given.pop("preset", "paper")]
    if stored is None:
        return Options(**{**preset, **given})
    stored = _complete(stored)
    if given.get("precision") == "auto":  # as chosen when the run began
        del given["precision"]
    if changed := differing(given, stored):
        raise ValueError(f"{changed}; omit it, or choose another --out")
    return Options(**{**stored, **{k: v for k, v in given.items() if k in _FREE}})


def differing(given: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    """The first option that decides about the result and has another value, as the start of an
    error; empty where there is none.

    Args:
        given: values by name; those that are absent do not differ.
        stored: of the run to resume.

    Raises:
        ValueError: an option is of another version of the package.
    """
    stored = _complete(stored)
    for name, value in given.items():
        if name not in _FREE and value != stored[name]:
            text = f"--{_flag(name)} {value} differs from the run to resume, which has "
            return text + repr(stored[name])
    return ""


def _complete(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options; younger ones have what was done before they were there."""
    defaults = {option.name: option.default for option in fields(Options)}
    if unknown := set(stored) - set(defaults):
        raise ValueError(f"the run to resume has options of another version: {sorted(unknown)}")
    return defaults | dict(stored)


def as_dict(options: Options) -> dict[str, Any]:
    """The options by name, as checkpoints and `run.json` hold them; see `resolve`."""
    return asdict(options)


def peek(arguments: Sequence[str] | None) -> tuple[Path | None, bool]:
    """`--out` (None if absent) and `--resume` of a command line, before the checkpoint is read."""
    given = vars(parser().parse_args(arguments))
    return Path(given["out"]) if "out" in given else None, given.get("resume", False)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _words(values: dict[str, Any]) -> str:
    return " ".join(f"{_flag(name)} {value}" for name, value in values.items()) or "the defaults"
