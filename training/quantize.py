# SPDX-License-Identifier: Apache-2.0
"""Quantises weights for int8 on a CPU: python -m training.quantize WEIGHTS --data DIR."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.command_line import ClassNames
from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.weights.native import to_bytes
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights
from training.data import exif_view, voc
from training.data.samples import load
from training.evaluation import speed
from training.quantisation import search

IMAGES_TO_RANK = 4


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.quantize",
        description="Prepares weights for int8: measures the ranges of the network's activations "
        "on images of a dataset, and compares the mAP in int8 with that in fp32. If it drops too "
        "far, the layers with the largest error stay in floating point. The file that is written "
        "holds the same tensors as WEIGHTS and the ranges: with OpenVINO on a CPU it runs in int8 "
        "(precision auto or int8), elsewhere as before.",
    )
    add = parser.add_argument
    add("weights", type=Path, help="weights file, or demo")
    add("--data", type=Path, required=True, help="VOC-format folder, or VOCdevkit")
    add(
        "--sets",
        default="trainval",
        help="image sets for the ranges, joined by + (default: %(default)s)",
    )
    add(
        "--val-sets",
        default="test",
        help="image sets for the mAP, joined by + (default: %(default)s)",
    )
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: WEIGHTS with _int8 added to its name)",
    )
    add(
        "--max-drop",
        type=float,
        default=0.005,
        metavar="MAP",
        help="largest accepted loss of mAP (VOC2007), 0 to 1 (default: %(default)s)",
    )
    add(
        "--images",
        type=int,
        default=300,
        metavar="N",
        help="images for the ranges, chosen at random from --sets (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="random seed of that choice (default: %(default)s)")
    add("--classes", action=ClassNames, help="evaluate only with objects of these classes")
    add("--exif-view", choices=exif_view.CHOICES, default="auto", help=exif_view.HELP)
    add("--threads", type=int, default=0, metavar="N", help="CPU threads; 0 is one per core")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = argument_parser().parse_args(arguments)
    target = options.out or options.weights.with_name(f"{options.weights.stem}_int8.safetensors")
    try:
        if options.images < 1 or not 0 <= options.max_drop <= 1:
            raise ValueError(
                "--images must be at least 1 and --max-drop from 0 to 1, got "
                f"{options.images} and {options.max_drop}"
            )
        quantise(options, target)
    except (ValueError, OSError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def quantise(options: argparse.Namespace, target: Path) -> None:
    """Measures, evaluates, writes the file and prints what it costs and gains.

    Raises:
        ValueError, OSError: weights or dataset cannot be used, the mAP drops too far, or the file
            cannot be written.
    """
    weights = replace(read(options.weights), quantisation=None)
    records = voc.find_images(options.data, options.val_sets)
    validation, _ = load(records, weights.classes, options.exif_view, options.classes)
    training = voc.find_images(options.data, options.sets)
    files = voc.choose_images(training, options.images, options.seed)
    fp32, int8 = (
        BackendOptions("openvino", "cpu", precision, options.threads)
        for precision in ("fp32", "int8")
    )
    ranged = replace(weights, quantisation=_measure(weights, files))
    before = speed.mean_ap(validation, fp32, weights)
    print(f"fp32: mAP {before:.4f} on {len(validation)} images of {options.val_sets}")
    size = weights.config.input_size
    images = network_input([Image(image_files.read(f)) for f in files[:IMAGES_TO_RANK]], size)
    evaluate = functools.partial(speed.mean_ap, validation, int8)
    found = search.find(ranged, evaluate, before - options.max_drop, images, int8)
    record = provenance(options, len(files), before, found)
    result = replace(found.weights, training={**weights.training, "quantisation": record})
    check = functools.partial(check_file, result, int8, images)
    atomic.write(target, to_bytes(result), check)
    milliseconds = speed.median_milliseconds([(result, fp32), (result, int8)])
    kept = ", ".join(record["kept"]) or "none"
    print(
        f"int8: mAP {found.score:.4f} ({found.score - before:+.4f}), "
        f"in floating point: {kept}\n"
        f"network alone: {milliseconds[0]:.1f} ms an image in fp32, {milliseconds[1]:.1f} in int8\n"
        f"wrote {target}: {target.stat().st_size / 1e6:.1f} MB"
    )


def _measure(weights: Weights, files: Sequence[Path]) -> Quantisation:
    os.environ.setdefault("NNCF_CI", "1")  # or it sends statistics about its use over the network
    try:
        from training.quantisation import ranges  # NNCF takes seconds to import
    except ModuleNotFoundError as error:
        raise ValueError(
            f"training.quantize needs the module '{error.name}': "
            "pip install -r requirements-training.txt"
        ) from error
    return ranges.measure(weights, files)


def provenance(
    options: argparse.Namespace, images: int, before: float, found: search.Found
) -> dict[str, Any]:
    """What the file records about its quantisation."""
    assert found.weights.quantisation is not None
    return {
        "data": options.data.resolve().name,
        "sets": options.sets,
        "val_sets": options.val_sets,
        "images": images,
        "seed": options.seed,
        "kept": sorted(found.weights.quantisation.kept),
        "map_voc2007": {"fp32": before, "int8": found.score},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def check_file(expected: Weights, options: BackendOptions, images: np.ndarray, file: Path) -> None:
    """Reads a file and runs it.

    Raises:
        ValueError: it cannot be used, or does not compute what the weights in memory do.
    """
    outputs = []
    for weights in (expected, read(file)):
        backend = create(weights, options)
        outputs.append([np.array(output) for output in backend.infer(images)])
    if not all(map(np.array_equal, *outputs)):
        raise ValueError(f"'{file}' does not compute what was written")


if __name__ == "__main__":
    sys.exit(main())
