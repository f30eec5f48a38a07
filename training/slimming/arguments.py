# SPDX-License-Identifier: Apache-2.0
"""The command line of training.slim."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from training.trainer import options as training_options

TARGETS = ("width", "target_ms", "target_flops")
# Options of training.train that each step sets, or that would undo the pruning.
_SET = ("init", "init_layers", "base", "width", "data", "out", "resume")


def parser() -> argparse.ArgumentParser:
    """The command line of training.slim, without the options of training.train."""
    result = argparse.ArgumentParser(
        prog="python -m training.slim",
        description="Makes a trained network narrower and faster: takes out the channels that "
        "contribute least on training images, and trains what is left. A quarter of the channels "
        "is a sixteenth of the work. What it costs in accuracy depends on the dataset; the command "
        "measures it and ends with a table.",
        epilog="All other options are those of python -m training.train, for each step; default: "
        "--preset small with nothing frozen and 860 iterations.",
        allow_abbrev=False,
    )
    add = result.add_argument
    add("weights", metavar="WEIGHTS", help="weights file of a network with VGG16")
    add("--data", required=True, metavar="DIR", help="VOC-format folder, or VOCdevkit")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="new folder: a run as training.train's with the result, and with --steps those before "
        "it in step1, step2, …",
    )
    _add_targets(result)
    add(
        "--sensitivity",
        action="store_true",
        help="first measure what each layer's channels are worth, and take more from layers that "
        "lose little, at most three quarters, at the same number of multiplications (not exactly "
        "the same time)",
    )
    add(
        "--steps",
        type=int,
        default=1,
        metavar="N",
        help="prune and train so many times, the same share of the channels each. More than one "
        "costs more and has gained nothing where it was tried (default: %(default)s)",
    )
    add(
        "--images",
        type=int,
        default=32,
        metavar="N",
        help="training images on which channels are ranked and what is left is adjusted, chosen at "
        "random; all where there are fewer. All are in memory at once (default: %(default)s)",
    )
    add(
        "--resume",
        action="store_true",
        help="continue what is in --out, with the options that it began with",
    )
    return result


def _add_targets(parser: argparse.ArgumentParser) -> None:
    wide = parser.add_mutually_exclusive_group(required=True)
    wide.add_argument(
        "--width",
        type=float,
        metavar="X",
        help="channel multiplier of the result, above 0; SSD300 has 1. Channels are multiples of 8",
    )
    wide.add_argument(
        "--target-ms",
        type=float,
        metavar="X",
        help="the widest network, in sixteenths, that takes at most so many milliseconds an image "
        "on this machine's CPU",
    )
    wide.add_argument(
        "--target-flops",
        type=float,
        metavar="X",
        help="the widest, in sixteenths, with at most so many multiplications an image, each with "
        "an addition; SSD300 with 20 classes has 31e9",
    )
    parser.add_argument(
        "--target-precision",
        default="int8",
        choices=("fp32", "bf16", "int8"),
        help="for --target-ms (default: %(default)s, as training.quantize makes it)",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="for --target-ms; 0: every core"
    )


def check(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Checks what does not depend on any file.

    Raises:
        ValueError: an option is out of range or not for this command.
    """
    for name in vars(training_options.parser("training.slim", argparse.SUPPRESS).parse_args(rest)):
        if name in _SET:
            raise ValueError(
                f"--{name.replace('_', '-')} is no option of the trainings here: each begins with "
                "the pruned network (and options of training.slim must be written in full)"
            )
    for name in TARGETS:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    for name in ("images", "steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("training.slim runs in one process; start it without torchrun")
