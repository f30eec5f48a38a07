# SPDX-License-Identifier: Apache-2.0
"""From an image to detections on the CPU: ssd_ros against torchvision's ssd300_vgg16.

    python benchmarks/inference.py [--rounds 15] [--threads 2] [--json OUT]

Each run takes the same 640x480 BGR image in memory and ends with boxes in its pixels, under the
same thresholds. At width 1 ssd_ros has torchvision's weights. How they are made: networks.py.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from images import SIZE, image_of
from measuring import Table, add_arguments, alternate, cores, milliseconds, report
from networks import CANDIDATES, SURE, converted, quantised, torchvision_network, weights_of_width

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.openvino import choose_precision, engine
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image

ENGINES = {"pytorch": "PyTorch", "openvino": "OpenVINO"}
TORCHVISION = "torchvision ssd300_vgg16"
COLUMNS = {
    "network": "network",
    "width": "`width`",
    "engine": "engine",
    "precision": "precision",
    "ms": "median (ms)",
    "ratio": "of torchvision's",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser)
    add("--rounds", type=int, default=15, help="default: %(default)s")
    add("--threads", type=int, default=cores(), help="of each engine, default: %(default)s")
    add("--widths", type=float, nargs="+", default=[1.0, 0.5, 0.25], help="default: %(default)s")
    add("--outputs", type=int, nargs="+", default=[91, 21], choices=(91, 21), help="of a box")
    add("--score-threshold", type=float, default=0.5, help="default: %(default)s, the node's")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.widths, options.outputs = 1, [0.25], [21]
    torch.set_num_threads(options.threads)
    report(options, [measure(outputs, options) for outputs in options.outputs])
    return 0


def measure(outputs: int, options: argparse.Namespace) -> Table:
    """All networks with so many outputs a box."""
    gc.collect()  # the networks before
    thresholds = Thresholds(options.score_threshold)
    theirs = torchvision_network(outputs, thresholds)
    image = image_of(SIZE)

    @torch.inference_mode()
    def torchvision() -> object:
        rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1]))
        detections = theirs([rgb.permute(2, 0, 1) / 255])[0]
        return {key: value.numpy() for key, value in detections.items()}

    runs: dict[str, Callable[[], object]] = {TORCHVISION: torchvision}
    rows: dict[str, dict[str, Any]] = {TORCHVISION: _row(TORCHVISION, 1, "pytorch", "fp32")}
    images = [Image(image)]
    for width in options.widths:
        weights = converted(theirs) if width == 1 else weights_of_width(width, outputs)
        weights = quantised(weights)
        for backend, precision in variants():
            choice = BackendOptions(backend, "cpu", precision, options.threads)
            detector = Detector(weights, choice, thresholds)
            key = f"{width:g} {backend} {precision}"
            runs[key] = lambda detector=detector: detector(images)  # type: ignore[misc]
            rows[key] = _row("ssd_ros", width, backend, precision)
    times = alternate(runs, options.rounds, f"{outputs} outputs")
    first = milliseconds(times[TORCHVISION])
    for key, row in rows.items():
        row["ms"] = milliseconds(times[key])
        row["ratio"] = milliseconds(times[key]) / first
    text = (
        f"From a 640×480 image in memory to boxes in pixels, {options.threads} threads, "
        f"{options.rounds} alternating rounds. Score threshold {options.score_threshold:g}, NMS "
        f"{thresholds.nms_iou_threshold:g}, at most {thresholds.max_detections} detections. "
        f"{CANDIDATES} pairs of box and class have a score above 0.01, {SURE} above 0.5. "
        "At `width` 1 all have the same weights."
    )
    return Table(f"Image to detections, {outputs - 1} classes", text, COLUMNS, list(rows.values()))


def _row(network: str, width: float, backend: str, precision: str) -> dict[str, Any]:
    return {
        "network": network,
        "width": f"{width:g}",
        "engine": ENGINES[backend],
        "precision": precision,
    }


def variants() -> Iterator[tuple[str, str]]:
    """Engines and precisions that are worth their time on this processor."""
    yield "pytorch", "fp32"
    yield "openvino", "fp32"
    supported = engine().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if choose_precision("auto", supported) == "bf16":
        yield "openvino", "bf16"
    if "INT8" in supported:
        yield "openvino", "int8"


if __name__ == "__main__":
    sys.exit(main())
