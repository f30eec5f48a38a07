# SPDX-License-Identifier: Apache-2.0
"""Evaluates weights on an image set: python -m training.evaluate WEIGHTS --data DIR."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd_ros import atomic
from ssd_ros.backends.arguments import add_arguments, from_arguments
from ssd_ros.command_line import ClassNames
from ssd_ros.detector import Detector
from ssd_ros.model.not_finite import NotFiniteError
from training.data import exif_view, soundness, voc
from training.data.samples import UnknownClassError, load
from training.evaluation import metrics, predictions


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.json:
            atomic.check_writable(options.json)
        result, note = evaluate(options)
    except (ValueError, OSError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with_table = sys.stderr if options.json == atomic.STANDARD_OUTPUT else sys.stdout
    print(note, file=with_table)
    print(metrics.format_table(result), file=with_table)
    if options.json:
        try:
            atomic.write(options.json, (json.dumps(result, indent=2) + "\n").encode())
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The metrics that the command writes, and what ran the network, in words.

    Raises:
        ValueError, OSError, NotFiniteError: weights or dataset cannot be used.
    """
    chosen = options.classes or ()
    detector = Detector(
        options.weights, from_arguments(options), predictions.THRESHOLDS, class_filter=chosen
    )
    records = voc.find_images(options.data, options.sets)
    try:
        samples, classes = load(records, detector.classes, options.exif_view, options.classes)
    except UnknownClassError as error:
        known = ",".join(detector.classes)
        raise voc.VOCError(f"{error}; --classes {known} ignores other objects") from None
    start = time.perf_counter()
    detections = predictions.detect(detector, samples, options.batch)
    seconds = time.perf_counter() - start
    for text in soundness.find_warnings(samples):
        print(f"warning: {text}", file=sys.stderr)
    ground_truth = predictions.annotated(samples)
    result = {
        "weights": str(options.weights),
        "data": str(options.data),
        "sets": options.sets,
        "images": len(samples),
        "backend": detector.backend,
        "device": detector.device,
        "precision": detector.precision,
        "images_per_second": round(len(samples) / seconds, 2),
        **metrics.compute_metrics(detections, ground_truth, classes),
    }
    if not options.no_coco:
        result["coco"] = metrics.coco_metrics(
            detections, ground_truth, [sample.size for sample in samples], classes
        )
        if result["coco"] is None:
            print("no COCO metrics: pip install faster-coco-eval", file=sys.stderr)
    return result, detector.note


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    add = parser.add_argument
    add("weights", type=Path, help="weights file")
    add("--data", type=Path, required=True, help="VOC-format folder, or VOCdevkit")
    add("--sets", default="test", help="image sets, joined by + (default: %(default)s)")
    add(
        "--classes",
        action=ClassNames,
        help="evaluate only these classes; objects and detections of others are ignored",
    )
    add("--exif-view", choices=exif_view.CHOICES, default="auto", help=exif_view.HELP)
    add_arguments(parser)
    add("--batch", type=int, default=8, help="batch size (default: %(default)s)")
    add(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the metrics to FILE, or with - to the "
        "standard output, and the table to the standard error output",
    )
    add("--no-coco", action="store_true", help="skip COCO metrics")
    return parser


if __name__ == "__main__":
    sys.exit(main())
