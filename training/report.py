# SPDX-License-Identifier: Apache-2.0
"""A training run as one HTML page with curves and images: python -m training.report RUN.

The page contains everything it shows and opens offline. It is created from the run's files and its
dataset, by detecting in the images of the run's validation sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detector import Detector
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.weights import reader
from ssd_ros.weights.weights import Weights
from training.data import loss_objects, voc
from training.data.samples import Sample, invalid_boxes, load
from training.evaluation import compared, gallery, metrics, plots, predictions, templates, voc_ap
from training.trainer import run_files


def page(run: Path, weights: Path, data: Path, device: str, before: Path | None = None) -> str:
    """The page of a run, as HTML.

    Args:
        run: folder that training.train wrote.
        weights: file to detect with.
        data: where the dataset is now.
        device: auto, cpu, cuda, cuda:N.
        before: a file with the same classes to compare with, as the one that was pruned.

    Raises:
        ValueError, OSError: a file of the run or of the dataset is missing or broken.
    """
    info = run_files.read_run_info(run)
    options = info["options"]
    how = BackendOptions(device=device, precision="fp32")
    network = reader.read(weights)
    pair = _pair(before, weights, network)
    if pair is not None and options["val_sets"] == "none":
        raise ValueError(f"--compare {before}: the run in '{run}' has no validation images")
    detector = Detector(network, how, predictions.THRESHOLDS)
    view = options.get("exif_view", "auto")
    only = detector.classes if options.get("classes") else None
    train, _ = load(voc.find_images(data, options["sets"]), detector.classes, view, only)
    lost = loss_objects.find_lost(train, network.config)
    sets: list[tuple[str, list[Sample]]] = [(options["sets"], train)]
    validation = comparison = None
    if options["val_sets"] != "none":
        records = voc.find_images(data, options["val_sets"])
        samples, _ = load(records, detector.classes, view, only)
        sets.append((options["val_sets"], samples))
        validation = {
            "weights": weights.name,
            "sets": options["val_sets"],
            **validation_section(detector, samples),
        }
        if pair is not None:
            comparison = compared.section(pair, how, samples)
    return templates.render(
        "report.html",
        name=run.resolve().name,
        validation=validation,
        comparison=comparison,
        curves=curves(run_files.read_metrics(run)),
        data=data_section(sets, detector.classes),
        lost=loss_objects.rows(lost, detector.classes),
        sessions=info["sessions"],
        options=options,
    )


def _pair(before: Path | None, after: Path, network: Weights) -> compared.Pair | None:
    """What --compare asks for; the files of two runs have the same name, but another folder."""
    if before is None:
        return None
    names = [f"{path.resolve().parent.name}/{path.name}" for path in (before, after)]
    return compared.Pair((names[0], names[1]), (reader.read(before), network))


def validation_section(detector: Detector, samples: Sequence[Sample]) -> dict[str, Any]:
    """Metrics, precision-recall curves and example images of a detector on a dataset."""
    detections = predictions.detect(detector, samples)
    ground_truth = predictions.annotated(samples)
    results = voc_ap.evaluate(detections, ground_truth, len(detector.classes))
    drawings = gallery.Drawings(detections, ground_truth, samples, detector.classes)
    return {
        "images": len(samples),
        "metrics": metrics.to_dict(results, detector.classes),
        "precision_recall": Markup(plots.precision_recall(results, detector.classes)),
        "min_score": gallery.MIN_SCORE,
        "galleries": gallery.galleries(drawings),
    }


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """SVG diagrams of the lines of metrics.jsonl."""
    drawn = []
    if any("loss" in row for row in rows):
        drawn += [plots.loss(rows), plots.learning_rate(rows)]
    if any(row.get("map_voc2007") is not None for row in rows):
        drawn.append(plots.validation(rows))
    return [Markup(svg) for svg in drawn]


def data_section(
    sets: Sequence[tuple[str, Sequence[Sample]]], classes: Sequence[str]
) -> dict[str, Any]:
    """Statistics of image sets, and the sizes of the boxes of the first one."""
    rows = []
    for name, samples in sets:
        ground_truth = predictions.annotated(samples)
        rows.append(
            (
                name,
                len(samples),
                sum(not len(sample.labels) for sample in samples),
                invalid_boxes(samples).total(),
                int(ground_truth.difficult.sum()),
                sum(len(sample.ignored) for sample in samples),
                *np.bincount(ground_truth.label, minlength=len(classes)).tolist(),
            )
        )
    return {
        "header": (
            "image sets",
            "images",
            "without objects",
            "no area",
            "difficult",
            "other classes",
            *classes,
        ),
        "rows": rows,
        "box_sizes": Markup(plots.box_sizes(_relative_sizes(sets[0][1], len(classes)), classes)),
    }


def _relative_sizes(samples: Sequence[Sample], classes: int) -> list[np.ndarray]:
    """For each class the square root of each box's share of its image."""
    shares = [
        np.sqrt((s.boxes[:, 2:] - s.boxes[:, :2]).clip(0).prod(axis=1) / max(1, width * height))
        for s, (width, height) in ((s, s.size) for s in samples)
    ]
    share = np.concatenate(shares)
    label = np.concatenate([s.labels for s in samples])
    return [share[label == k] for k in range(classes)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run, --out of training.train")
    parser.add_argument(
        "--weights", type=Path, help=f"weights to evaluate (default: RUN/{run_files.BEST})"
    )
    parser.add_argument(
        "--data", type=Path, help="where the dataset is now (default: as in the training)"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="also compare with these weights of the same classes: mAP, speed, size, and the "
        "images in which they differ",
    )
    parser.add_argument("--out", type=Path, help="output file (default: RUN/report.html)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    given = parser.parse_args(arguments)
    out = given.out or given.run / "report.html"
    try:
        data = given.data or Path(run_files.read_run_info(given.run)["options"]["data"])
        weights = given.weights or given.run / run_files.BEST
        text = page(given.run, weights, data, given.device, given.compare)
        atomic.write(out, text.encode("utf-8", "replace"))
    except (ValueError, OSError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {len(text) / 2**20:.1f} MB, opens in any browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
