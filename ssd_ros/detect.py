# SPDX-License-Identifier: Apache-2.0
"""The detector on image files, without ROS: `python -m ssd_ros.detect --help`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssd_ros import atomic
from ssd_ros.backends.backend import PRECISIONS
from ssd_ros.detections import Detections, Thresholds
from ssd_ros.detector import Detector
from ssd_ros.drawing import annotate
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.weights.names import DEMO


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where every image was processed, 1 where something could not be read."""
    options = _parser().parse_args(arguments)
    try:
        files = image_files.find(options.images)
        detector = Detector(
            options.weights,
            options.device,
            options.precision,
            Thresholds(options.score_threshold, options.nms_iou_threshold, options.max_detections),
            options.only,
        )
        names = drawn_names(files) if options.draw else {}
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    start, results, failed = time.monotonic(), [], 0
    with tqdm(total=len(files), unit="image", disable=None) as progress:
        for i in range(0, len(files), options.batch):
            images = {}
            for file in files[i : i + options.batch]:
                try:
                    images[file] = Image(image_files.read(file))
                except ValueError as error:  # the others are still worth having
                    failed += 1
                    progress.write(f"error: {error}", file=sys.stderr)
            found = detector(list(images.values()))
            for (file, image), detections in zip(images.items(), found, strict=True):
                results.append(as_json(file, image, detections, detector.classes))
                if options.draw:
                    canvas = annotate(image, detections, detector.classes)
                    image_files.write(options.draw / names[file], canvas)
                if not options.json:
                    progress.write("\n".join(_lines(results[-1])), file=sys.stdout)
            progress.update(len(files[i : i + options.batch]))
    seconds = time.monotonic() - start

    if options.json:
        text = json.dumps(results, indent=1, ensure_ascii=False)
        atomic.write(options.json, text.encode())
    count = sum(len(result["detections"]) for result in results)
    written = [f"wrote {path}" for path in (options.json, options.draw) if path]
    print(
        f"{count} detections in {len(results)} images, {seconds:.1f} s on {detector.device}"
        + "".join(f"; {text}" for text in written)
        + (f"; {failed} files could not be read" if failed else ""),
        file=sys.stderr,
    )
    return 1 if failed else 0


def as_json(
    file: Path, image: Image, detections: Detections, classes: Sequence[str]
) -> dict[str, Any]:
    """One image's detections as plain values; boxes are x1 y1 x2 y2 in pixels."""
    return {
        "file": str(file),
        "width": image.width,
        "height": image.height,
        "detections": [
            {"class": classes[label], "score": score, "box": box}
            for box, score, label in zip(
                detections.boxes.tolist(),
                detections.scores.tolist(),
                detections.labels.tolist(),
                strict=True,
            )
        ],
    }


def drawn_names(files: Sequence[Path]) -> dict[Path, str]:
    """Names of the annotated images in the output folder.

    Raises:
        ValueError: two images would get the same name.
    """
    names = {file: f"{file.stem}.jpg" for file in files}
    for file, name in names.items():
        twin = next(f for f, n in names.items() if n == name)
        if twin != file:
            raise ValueError(f"'{twin}' and '{file}' would both be drawn to '{name}'")
    return names


def _lines(result: dict[str, Any]) -> Iterator[str]:
    for found in result["detections"] or [None]:
        if found is None:
            yield f"{result['file']}  nothing"
        else:
            box = " ".join(f"{value:6.1f}" for value in found["box"])
            yield f"{result['file']}  {found['class']:<15} {found['score']:.3f}  {box}"


def _parser() -> argparse.ArgumentParser:
    limits = Thresholds()
    parser = argparse.ArgumentParser(
        prog="python -m ssd_ros.detect",
        description="Detect objects in image files.",
        epilog="example: python -m ssd_ros.detect photos/ --weights my.safetensors --draw out/",
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    add(
        "--weights",
        default=DEMO,
        help="weights file: .safetensors, or torchvision's .pth (default: the demo's objects)",
    )
    add("--json", type=Path, metavar="OUT", help="write the detections to this file")
    add("--draw", type=Path, metavar="DIR", help="write annotated images to this folder")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add(
        "--precision",
        default="auto",
        choices=("auto", *PRECISIONS),
        help="auto is fp16 on CUDA, fp32 on the CPU",
    )
    add(
        "--score-threshold",
        type=float,
        default=limits.score_threshold,
        metavar="S",
        help="detections score above this, 0 to 1 (default: %(default)s)",
    )
    add(
        "--nms-iou-threshold",
        type=float,
        default=limits.nms_iou_threshold,
        metavar="IOU",
        help="of two boxes of a class that overlap by more, one stays (default: %(default)s)",
    )
    add(
        "--max-detections",
        type=int,
        default=limits.max_detections,
        metavar="N",
        help="at most so many in an image (default: %(default)s)",
    )
    add("--only", nargs="+", default=(), metavar="CLASS", help="report these classes alone")
    add("--batch", type=_positive, default=4, metavar="N", help="images at once (default: 4)")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
