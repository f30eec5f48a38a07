# SPDX-License-Identifier: Apache-2.0
"""The detector against torchvision's ssd300_vgg16: same weights, same images, one run.

    python benchmarks/detector.py [--device cuda] [--rounds 15] [--json OUT | --save DIR]

Random weights of torchvision's network with 21 outputs, converted. Each runs from BGR images in
memory to boxes in their pixels, and from the network's outputs to boxes. The contenders alternate,
and medians are compared, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchvision.models.detection import ssd300_vgg16
from tqdm import tqdm

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import choose_device
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.model.postprocess import Postprocessor
from ssd_ros.model.precision import PRECISIONS
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import reader
from ssd_ros.weights.weights import Weights

Runs = dict[str, Callable[[], object]]
THRESHOLDS = Thresholds(0.3, 0.45, 200)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--save", type=Path, help="write them to this folder, named by the device")
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    theirs, ours = peers(device)
    parts = {"640x480 image to boxes": detectors(theirs, ours, [image])}
    if device.type == "cuda":
        parts["four 640x480 images to boxes"] = detectors(theirs, ours, [image] * 4)
    parts["outputs for an image to boxes"] = postprocessors(theirs, ours, image)
    medians = {name: measure(name, runs, options.rounds) for name, runs in parts.items()}
    cuda = device.type == "cuda"
    figures = {
        "median_ms": medians,
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(figures))
    if options.save:
        file_name = re.sub(r"[^a-z0-9]+", "-", str(figures["device"]).lower())
        options.json = options.save / f"{file_name}.json"
        options.save.mkdir(parents=True, exist_ok=True)
    if options.json:
        atomic.write(options.json, json.dumps(figures, indent=1).encode())
    return 0


def measure(name: str, runs: Runs, rounds: int) -> dict[str, float]:
    """Median milliseconds of each run; they alternate. Printed as a table."""
    times: dict[str, list[float]] = {contender: [] for contender in runs}
    for run in runs.values():
        run()  # the first time is slow everywhere
    for _ in tqdm(range(rounds), unit="round", disable=None):
        for contender, run in runs.items():
            start = time.perf_counter()
            run()
            times[contender].append(1e3 * (time.perf_counter() - start))
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    first = next(iter(medians.values()))
    print(f"{name:<42} {'median ms':>10} {'ratio':>6}")
    for contender, median in medians.items():
        print(f"{contender:<42} {median:>10.2f} {median / first:>6.2f}")
    return medians


def peers(device: torch.device) -> tuple[Any, Weights]:
    """torchvision's network on the device, and the same weights for ours."""
    torch.manual_seed(0)
    limits = {"score_thresh": 0.3, "nms_thresh": 0.45, "detections_per_img": 200}
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21, **limits).eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder, "theirs.pth"))
        ours = reader.read(Path(folder, "theirs.pth"))
    return theirs.to(device), ours


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
        if loaded.note:
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
        model = SSD(20, width)
        small = Weights(model.state_dict(), ours.classes, model.config)
        runs[f"ssd_ros, width {width:g}"] = detector(small, "fp32")
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
