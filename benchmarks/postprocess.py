# SPDX-License-Identifier: Apache-2.0
"""Post-processing on the CPU against torchvision's: the same outputs, one run.

    python benchmarks/postprocess.py [--weights FILE --classes NAME … --images FOLDER] [--json OUT]

From logits and offsets of one image to its detections, softmax included: 91 outputs, 8,732 boxes,
at most 200 detections. Outputs of a trained detector are those of real weights on real images,
where given, with further classes added until there are 91 outputs: in every row they have the
logits of its two least likely classes with noise, less log 87, so that together they weigh as
much as one class. `sharper` adds 3 to the background's logit where it is the best, as in weights
trained for longer. Without images the logits are simulated: 150 boxes on objects, the rest
background. `noise` is every box passing, as with random weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measuring import Table, add_arguments, alternate, cores, milliseconds, report
from torchvision.models.detection import ssd300_vgg16

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.detections import Thresholds
from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.model import postprocess, postprocess_numpy
from ssd_ros.model.config import TORCHVISION
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.weights import reader

OUTPUTS = 91
BURST = 10  # runs
COLUMNS = {
    "outputs": "outputs",
    "threshold": "score threshold",
    "torchvision": "torchvision (ms)",
    "pytorch": "ssd_ros, PyTorch (ms)",
    "ours": "ssd_ros, NumPy (ms)",
    "ratio": "NumPy of torchvision",
}
Outputs = tuple[np.ndarray, np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="with torchvision's default boxes")
    parser.add_argument("--classes", nargs="+", help="class names, where the weights have none")
    parser.add_argument("--images", type=Path, help="folder of JPEG files; the first is used")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=cores(), help="default: %(default)s")
    add_arguments(parser)
    options = parser.parse_args()
    if (options.weights is None) != (options.images is None):
        parser.error("--weights and --images are needed together")
    torch.set_num_threads(options.threads)

    if options.quick:
        options.rounds = 1
    rows = []
    for name, outputs in made_outputs(options).items():
        for threshold in (0.01, 0.5):
            runs = contenders(outputs, threshold)
            bursts = {key: repeated(run) for key, run in runs.items()}
            times = alternate(bursts, options.rounds, f"{name}, {threshold}")
            row: dict[str, Any] = {
                key: milliseconds(values) / BURST for key, values in times.items()
            }
            row |= {"outputs": name, "threshold": str(threshold)}
            rows.append(row | {"ratio": row["ours"] / row["torchvision"]})
    text = (
        f"From logits and offsets of one image to detections on the CPU, {OUTPUTS} outputs a box, "
        f"{options.threads} threads, medians of {options.rounds} alternating rounds of {BURST} "
        "runs. The outputs are simulated as a trained detector's, with 150 boxes on objects, or "
        "from real weights and an image where these are given; with *noise* every box passes."
    )
    report(options, [Table("Post-processing", text, COLUMNS, rows)])
    return 0


def repeated(run: Callable[[], object]) -> Callable[[], object]:
    """Several runs in a row: a single one would mostly measure the caches that the others left."""

    def burst() -> None:
        for _ in range(BURST):
            run()

    return burst


def made_outputs(options: argparse.Namespace) -> dict[str, Outputs]:
    """Logits and offsets of one image by name; see the module's text."""
    generator = np.random.default_rng(0)
    shape = (1, TORCHVISION.box_count)
    noise = generator.normal(0, 1, (*shape, OUTPUTS)), generator.normal(0, 1, (*shape, 4))
    if options.images is None:
        logits = generator.normal(0, 1, (*shape, OUTPUTS))
        logits[..., 0] += 9
        objects = generator.choice(shape[1], 150)
        logits[:, objects, objects % (OUTPUTS - 1) + 1] += generator.uniform(5, 12, 150)
        trained = {"simulated": (logits, noise[1])}
    else:
        logits, offsets = real_outputs(options)
        missing = OUTPUTS - logits.shape[-1]
        least = np.sort(logits[..., 1:], axis=-1)[..., :2]
        extra = np.take_along_axis(least, generator.integers(0, 2, (*shape, missing)), -1)
        extra = extra + generator.normal(0, 1, extra.shape) - np.log(missing)
        sharper = logits.copy()
        sharper[..., 0] += 3 * (logits[..., 1:].max(-1) < logits[..., 0])
        trained = {
            "real": (np.concatenate((logits, extra), -1), offsets),
            "sharper": (np.concatenate((sharper, extra), -1), offsets),
        }
    every = {**trained, "noise": noise}
    return {k: (a.astype(np.float32), b.astype(np.float32)) for k, (a, b) in every.items()}


def real_outputs(options: argparse.Namespace) -> Outputs:
    backend = create(reader.read(options.weights, options.classes), BackendOptions(device="cpu"))
    file = min(options.images.glob("*.jpg"))
    pixels = cv2.imread(str(file))
    if pixels is None:
        raise SystemExit(f"{file} is not an image")
    logits, offsets = backend.infer(network_input([Image(pixels)]))
    return np.array(logits), np.array(offsets)


def contenders(outputs: Outputs, threshold: float) -> dict[str, Callable[[], object]]:
    """What is compared, by name; torchvision first, ours last."""
    limits = {"score_thresh": threshold, "nms_thresh": 0.45, "detections_per_img": 200}
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=OUTPUTS, **limits)
    boxes = torch.from_numpy(default_boxes(TORCHVISION)) * 300
    anchors = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
    logits, offsets = map(torch.from_numpy, outputs)
    heads = {"cls_logits": logits, "bbox_regression": offsets}

    def torchvision() -> object:
        with torch.inference_mode():
            return theirs.postprocess_detections(heads, [anchors], [(300, 300)])

    thresholds = Thresholds(threshold, 0.45, 200, 400)
    pytorch = postprocess.Postprocessor(TORCHVISION, thresholds)
    ours = postprocess_numpy.Postprocessor(TORCHVISION, thresholds)
    return {
        "torchvision": torchvision,
        "pytorch": lambda: pytorch(logits, offsets),
        "ours": lambda: ours(*outputs),
    }


if __name__ == "__main__":
    sys.exit(main())
