# SPDX-License-Identifier: Apache-2.0
"""Inspects and converts weights files: `python -m ssd_ros.weights --help`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from ssd_ros.command_line import ClassNames
from ssd_ros.weights.names import NAMED, missing
from ssd_ros.weights.native import write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights, WeightsError, printable


def describe(weights: Weights) -> str:
    """A text of several lines about weights."""
    config = weights.config
    count = sum(math.prod(tensor.shape) for tensor in weights.tensors.values())
    dtypes = {
        "bfloat16" if key in weights.bfloat16 else str(tensor.dtype).removeprefix("torch.")
        for key, tensor in weights.tensors.items()
    }
    side = config.input_size
    width = "" if config.width is None else f"width {config.width:g}, "
    sizes = [round(side * m.box_sizes[0][0]) for m in config.feature_maps]
    lines = {
        "network": f"SSD with {config.backbone}, {side}x{side} input, {width}"
        f"{count / 1e6:.1f} M parameters",
        "stored as": ", ".join(sorted(dtypes)),
        "classes": f"{len(weights.classes)}: {', '.join(weights.classes)}",
        "default boxes": f"{config.box_count}, first of each map {', '.join(map(str, sizes))} "
        f"pixels wide, clip: {config.clip}, suppression {config.nms.replace('_', ' ')}",
        "mean (RGB)": ", ".join(f"{255 * value:.1f}" for value in config.mean),
        "std (RGB)": ", ".join(f"{255 * value:.1f}" for value in config.std),
        "int8": _describe_quantisation(weights),
        "training": json.dumps(dict(weights.training), ensure_ascii=False)
        if weights.training
        else "not recorded",
    }
    return "\n".join(f"{name + ':':15}{printable(value)}" for name, value in lines.items())


def _describe_quantisation(weights: Weights) -> str:
    if weights.quantisation is None:
        return "not quantised (python -m training.quantize)"
    kept = sorted(weights.quantisation.kept)
    return "quantised" + (f", but for {', '.join(kept)}" if kept else "")


def _describe_named(name: str) -> str:
    named = NAMED[name]
    where = f"not downloaded yet: {named.url} -> " if missing(name) else ""
    return f"{name + ':':7}{named.text}\n       {where}{named.path}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ssd_ros.weights", description="Inspect and convert weights files."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the weights that have a name, and where they are")
    info = commands.add_parser(
        "info", help="print the network, classes and origin of a weights file"
    )
    info.add_argument(
        "file", type=Path, help="native .safetensors, another implementation's .pth, or a name"
    )
    info.add_argument("--classes", action=ClassNames, help="names for a file without any")
    convert = commands.add_parser(
        "convert", help="make a native file from another implementation's state dict"
    )
    convert.add_argument("source", type=Path, help="state dict as torch.save writes it, or a name")
    convert.add_argument(
        "target", type=Path, help="native file to write (.safetensors); missing folders are made"
    )
    convert.add_argument(
        "--classes",
        action=ClassNames,
        help="class names in the network's order (a,b or a b), without the background; not "
        "needed for networks with as many outputs as an implementation's own for VOC or COCO",
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            text = "\n".join(map(_describe_named, NAMED))
        elif options.command == "info":
            weights = read(options.file, options.classes, unnamed=True)
            text = f"{options.file}\n{describe(weights)}"
        else:
            if options.target.suffix != ".safetensors":
                raise WeightsError(
                    f"'{options.target}' must end in .safetensors, as its content is"
                )
            weights = read(options.source, options.classes)
            write(options.target, weights)
            text = f"wrote {options.target}: {len(weights.classes)} classes"
        print(text, flush=True)
    except BrokenPipeError:  # the reader has closed the pipe
        raise
    except (WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
