# SPDX-License-Identifier: Apache-2.0
"""The detector against torchvision's ssd300_vgg16: same weights, same images, one run.

    python benchmarks/detector.py [--device cuda] [--rounds 15] [--json OUT | --save DIR]

With PyTorch, for GPUs: on a CPU benchmarks/inference.py compares more. Each runs from BGR images in
memory to boxes in their pixels, and from the network's outputs to boxes. How the weights are made:
networks.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from images import SIZE, image_of
from measuring import Table, add_arguments, alternate, milliseconds, report
from networks import converted, torchvision_network, weights_of_width

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import choose_device
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.model.postprocess import Postprocessor
from ssd_ros.model.precision import PRECISIONS
from ssd_ros.weights.weights import Weights

Runs = dict[str, Callable[[], object]]
THRESHOLDS = Thresholds(0.3, 0.45, 200)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    add_arguments(parser, device="auto")
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    if options.quick:
        options.rounds = 1
    image = image_of(SIZE)
    theirs = torchvision_network(21, THRESHOLDS)
    ours = converted(theirs)
    theirs.to(device)
    parts = {"640x480 image to boxes": detectors(theirs, ours, [image])}
    if device.type == "cuda":
        parts["four 640x480 images to boxes"] = detectors(theirs, ours, [image] * 4)
    parts["outputs for an image to boxes"] = postprocessors(theirs, ours, image)
    tables = [measure(name, runs, options.rounds) for name, runs in parts.items()]
    report(options, tables)
    return 0


def measure(name: str, runs: Runs, rounds: int) -> Table:
    """Median milliseconds of each run, and the ratio to the first; they alternate."""
    medians = {key: milliseconds(values) for key, values in alternate(runs, rounds, name).items()}
    first = next(iter(medians.values()))
    rows = [{"run": key, "ms": ms, "ratio": ms / first} for key, ms in medians.items()]
    text = f"21 outputs a box, PyTorch; medians of {rounds} alternating rounds."
    return Table(name, text, {"run": "network", "ms": "median (ms)", "ratio": "ratio"}, rows)


def detectors(theirs: Any, ours: Weights, images: list[np.ndarray]) -> Runs:
    """From images to boxes, by name; torchvision first."""
    device = next(theirs.parameters()).device
    half = "fp16" if device.type == "cuda" else "bf16"

    def torchvision(autocast: bool) -> object:
        with torch.inference_mode(), torch.autocast(device.type, PRECISIONS[half], autocast):
            rgb = [torch.from_numpy(np.ascontiguousarray(i[..., ::-1])).to(device) for i in images]
            found = theirs([i.permute(2, 0, 1) / 255 for i in rgb])
            return [{key: value.cpu() for key, value in one.items()} for one in found]

    def detector(weights: Weights, precision: str) -> Callable[[], object]:
        loaded = Detector(weights, BackendOptions("pytorch", str(device), precision), THRESHOLDS)
        loaded.warm_up(len(images))
        print(f"note: {loaded.note}", file=sys.stderr)
        batch = [Image(image) for image in images]
        return lambda: loaded(batch)

    runs: Runs = {
        "torchvision ssd300_vgg16": lambda: torchvision(False),
        "ssd_ros, the same weights": detector(ours, "fp32"),
        f"ssd_ros, the same weights, {half}": detector(ours, half),
    }
    if half == "fp16":
        runs["torchvision ssd300_vgg16, autocast fp16"] = lambda: torchvision(True)
    for width in (0.5, 0.25):
        runs[f"ssd_ros, width {width:g}"] = detector(weights_of_width(width), "fp32")
    return runs


def postprocessors(theirs: Any, ours: Weights, image: np.ndarray) -> Runs:
    """From the outputs of torchvision's network to boxes on the host, by name."""
    device = next(theirs.parameters()).device
    with torch.inference_mode():
        rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(device)
        images, _ = theirs.transform([rgb.permute(2, 0, 1) / 255])
        maps = list(theirs.backbone(images.tensors).values())
        outputs, anchors = theirs.head(maps), theirs.anchor_generator(images, maps)
    process = Postprocessor(ours.config, THRESHOLDS, None, str(device))

    def torchvision() -> object:
        with torch.inference_mode():
            (found,) = theirs.postprocess_detections(outputs, anchors, images.image_sizes)
            return {key: value.cpu() for key, value in found.items()}

    return {
        "torchvision postprocess_detections": torchvision,
        "ssd_ros Postprocessor": lambda: process(outputs["cls_logits"], outputs["bbox_regression"]),
    }


if __name__ == "__main__":
    sys.exit(main())
