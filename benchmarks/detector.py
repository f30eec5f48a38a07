# SPDX-License-Identifier: Apache-2.0
"""The detector against torchvision's ssd300_vgg16: same weights, same images, one run.

    python benchmarks/detector.py [--rounds 15] [--json OUT]

Random weights of torchvision's network with 21 outputs, converted. Each runs from a BGR image in
memory to boxes in its pixels. The contenders alternate, and medians are compared, so that what else
the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.models.detection import ssd300_vgg16
from tqdm import tqdm

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import reader
from ssd_ros.weights.weights import Weights


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    runs = contenders(options.device, image)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # the first time is slow everywhere
    for _ in tqdm(range(options.rounds), unit="round", disable=None):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))

    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    print(f"{'640x480 image to boxes':<42} {'median ms':>10} {'ratio':>6}")
    for name, median in medians.items():
        print(f"{name:<42} {median:>10.1f} {median / first:>6.2f}")
    figures = {
        "median_ms": medians,
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(figures))
    if options.json:
        atomic.write(options.json, json.dumps(figures, indent=1).encode())
    return 0


def contenders(device: str, image: np.ndarray) -> dict[str, Callable[[], object]]:
    """What is compared, by name; torchvision first."""
    torch.manual_seed(0)
    limits = {"score_thresh": 0.3, "nms_thresh": 0.45, "detections_per_img": 200}
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21, **limits).eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder, "theirs.pth"))
        ours = reader.read(Path(folder, "theirs.pth"))
    detector = Detector(ours, BackendOptions("pytorch", device, "fp32"), Thresholds(0.3, 0.45, 200))
    theirs.to(detector.device)

    def torchvision() -> object:
        with torch.inference_mode():
            rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(detector.device)
            found = theirs([rgb.permute(2, 0, 1) / 255])[0]
            return {key: value.cpu() for key, value in found.items()}

    batch = [Image(image)]
    runs: dict[str, Callable[[], object]] = {
        "torchvision ssd300_vgg16": torchvision,
        "ssd_ros, the same weights": lambda: detector(batch),
    }
    half = Detector(ours, BackendOptions("pytorch", device, "bf16"), Thresholds(0.3, 0.45, 200))
    runs["ssd_ros, the same weights, bf16"] = lambda: half(batch)
    for width in (0.5, 0.25):
        model = SSD(20, width)
        small = Weights(model.state_dict(), ours.classes, model.config)
        narrow = Detector(
            small, BackendOptions("pytorch", device, "fp32"), Thresholds(0.3, 0.45, 200)
        )
        runs[f"ssd_ros, width {width:g}"] = lambda narrow=narrow: narrow(batch)  # type: ignore[misc]
    return runs


if __name__ == "__main__":
    sys.exit(main())
