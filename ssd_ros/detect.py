# SPDX-License-Identifier: Apache-2.0
"""The detector on image and video files, without ROS: `python -m ssd_ros.detect --help`."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ssd_ros.atomic import STANDARD_OUTPUT
from ssd_ros.backends.arguments import add_arguments, from_arguments
from ssd_ros.bit_depth import PERCENTILES, RANGES
from ssd_ros.command_line import ClassNames, plural
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image, ImageError
from ssd_ros.io.sinks import AnnotatedImages, JsonFile, Sink, TextLines
from ssd_ros.io.sources import Frame, ImageFiles, Source, open_files
from ssd_ros.weights.names import COCO


@dataclass
class Counts:
    """What became of the frames of a source.

    Attributes:
        images: frames that were processed.
        detections: in all of them.
        failed: frames that could not be read.
        written: outputs with the detections of all processed frames.
    """

    images: int = 0
    detections: int = 0
    failed: int = 0
    written: list[Path] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every image was processed, 1 if something could not be read or written."""
    options = _parser().parse_args(arguments)
    try:
        source = open_files(options.images, options.mono16_range)
        detector = Detector(
            options.weights,
            from_arguments(options),
            Thresholds(options.score_threshold, options.nms_iou_threshold, options.max_detections),
            options.only,
        )
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    counts, start = Counts(), time.monotonic()
    try:
        _detect_into_files(options, source, detector, counts)
    except BrokenPipeError:  # the reader has closed the pipe
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: the network's outputs are not finite
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 128 + signal.SIGINT
    else:
        status = 1 if counts.failed else 0
    if counts.images or counts.failed:
        print(_summary(counts, time.monotonic() - start, detector.note), file=sys.stderr)
    return status


def detect(
    detector: Detector,
    source: Source,
    sinks: Sequence[Sink],
    batch: int,
    counts: Counts,
    on_done: Callable[[ImageError | None], None],
) -> None:
    """Detects objects in every frame of a source and writes them to sinks, without a commit.

    Args:
        batch: images that the detector gets at once.
        counts: updated after each frame.
        on_done: called after each frame, with the reason if it could not be read.

    Raises:
        OSError: a sink cannot store the detections, or the source cannot be continued.
    """

    def readable() -> Iterator[tuple[Frame, Image]]:
        for frame in source:
            try:
                image = frame.read()
            except ImageError as error:  # the other frames are still useful
                counts.failed += 1
                on_done(error)
            else:
                yield frame, image

    frames = readable()
    while group := list(itertools.islice(frames, batch)):
        results = detector([image for _, image in group])
        for (frame, image), detections in zip(group, results, strict=True):
            for sink in sinks:
                sink.write(frame, image, detections)
            counts.images += 1
            counts.detections += len(detections)
            on_done(None)


def _detect_into_files(
    options: argparse.Namespace, source: Source, detector: Detector, counts: Counts
) -> None:
    """Runs `detect` with a progress bar, and commits the sinks that the options ask for.

    After an error or Ctrl-C the sinks get what is done so far.
    """
    total = len(source) if isinstance(source, Sized) else None
    with ExitStack() as stack:
        progress = stack.enter_context(tqdm(total=total, unit="image", disable=None))
        outputs: list[tuple[Sink, Path | None]] = []
        if options.draw:
            annotated = AnnotatedImages(options.draw, detector.classes)
            stack.enter_context(closing(annotated))
            if isinstance(source, ImageFiles):  # the names are known: report conflicts at once
                for frame in source:
                    annotated.reserve(frame)
            outputs.append((annotated, options.draw))
        if options.json:
            file = stack.enter_context(closing(JsonFile(options.json, detector.classes)))
            outputs.append((file, options.json))
        else:
            print_line = partial(progress.write, file=sys.stdout)
            outputs.append((TextLines(print_line, detector.classes), None))

        def on_done(error: ImageError | None) -> None:
            if error:
                progress.write(f"error: {error}", file=sys.stderr)
            progress.update()

        def commit(sink: Sink, path: Path | None) -> None:
            sink.commit()
            if path and path != STANDARD_OUTPUT:
                counts.written.append(path)

        with ExitStack() as commits:  # each is called, also if another one fails
            try:
                sinks = [sink for sink, _ in outputs]
                detect(detector, source, sinks, options.batch, counts, on_done)
            finally:
                if counts.images or not sys.exc_info()[0]:
                    for sink, path in outputs:
                        commits.callback(commit, sink, path)


def _summary(counts: Counts, seconds: float, note: str) -> str:
    written = [f"; wrote {path}" for path in counts.written]
    failed = f"; {plural(counts.failed, 'image')} could not be read" if counts.failed else ""
    return (
        f"{plural(counts.detections, 'detection')} in {plural(counts.images, 'image')}, "
        f"{seconds:.1f} s, {note}{''.join(written)}{failed}"
    )


def _parser() -> argparse.ArgumentParser:
    defaults = Thresholds()
    parser = argparse.ArgumentParser(
        prog="python -m ssd_ros.detect",
        description="Detect objects in image and video files.",
        epilog="example: python -m ssd_ros.detect photos/ --weights my.safetensors --draw out/",
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or video files")
    add(
        "--weights",
        default=COCO,
        help="weights file: .safetensors, or another implementation's .pth; 'demo' for the bundled "
        "weights of five demo classes (default: %(default)s, torchvision's, downloaded once)",
    )
    add("--json", type=Path, metavar="OUT", help="write the detections to this file, or - (stdout)")
    add("--draw", type=Path, metavar="DIR", help="write annotated images to this folder")
    add_arguments(parser)
    add(
        "--score-threshold",
        type=float,
        default=defaults.score_threshold,
        metavar="S",
        help="minimum score of a detection, 0 to 1 (default: %(default)s)",
    )
    add(
        "--nms-iou-threshold",
        type=float,
        default=defaults.nms_iou_threshold,
        metavar="IOU",
        help="IoU threshold for per-class non-maximum suppression, 0 to 1 (default: %(default)s)",
    )
    add(
        "--max-detections",
        type=int,
        default=defaults.max_detections,
        metavar="N",
        help="maximum number of detections per image; the highest scores are kept "
        "(default: %(default)s)",
    )
    add(
        "--mono16-range",
        choices=RANGES,
        default=PERCENTILES,
        help="values of 16-bit grey images that become 0 to 255 "
        "(default: %(default)s of each image)",
    )
    add("--only", action=ClassNames, default=(), help="report only these classes (a,b or a b)")
    add("--batch", type=_positive, default=4, metavar="N", help="batch size (default: %(default)s)")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: keep what is done
    sys.exit(main())
