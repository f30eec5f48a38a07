# SPDX-License-Identifier: Apache-2.0
"""How good weights are on an image set: python -m training.evaluate WEIGHTS --data DIR."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ssd_ros import atomic
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.io import image_files
from training.data import batches, voc
from training.evaluation import voc_ap

# The paper's for VOC (section 3.1): all that may count, two hundred an image.
THRESHOLDS = Thresholds(score_threshold=0.01, nms_iou_threshold=0.45, max_detections=200, top_k=400)


def objects(examples: Sequence[batches.Example]) -> voc_ap.GroundTruth:
    """The annotated objects of a data set; image i is examples[i]."""
    return voc_ap.GroundTruth(
        np.repeat(np.arange(len(examples)), [len(e.labels) for e in examples]),
        np.concatenate([e.labels for e in examples]),
        np.concatenate([e.boxes for e in examples]),
        np.concatenate([e.difficult for e in examples]),
    )


def detect(
    detector: Detector, examples: Sequence[batches.Example], batch: int = 8
) -> voc_ap.Predictions:
    """What a detector finds in the images of a data set; image i is examples[i]."""
    image_index, label, boxes, scores = [], [], [], []
    starts = range(0, len(examples), batch)
    for start in tqdm(starts, desc="detect", unit="batch", disable=None, leave=False):
        part = examples[start : start + batch]
        images = [Image(image_files.read(example.item.image)) for example in part]
        for i, found in enumerate(detector(images), start=start):
            image_index.append(np.full(len(found), i))
            label.append(found.labels)
            boxes.append(found.boxes)
            scores.append(found.scores)
    return voc_ap.Predictions(
        *(np.concatenate(column) for column in (image_index, label, boxes, scores))
    )


def figures(
    found: voc_ap.Predictions, there: voc_ap.GroundTruth, classes: Sequence[str]
) -> dict[str, Any]:
    """PASCAL VOC figures at an intersection over union of 0.5, ready for JSON.

    Returns:
        `map_voc2007` and `map` (all-point), 0 to 1, and for each class its `ap_voc2007`, `ap`,
        `objects` and `detections`; None where a class has no objects.
    """
    return summary(voc_ap.evaluate(found, there, len(classes)), classes)


def summary(results: Sequence[voc_ap.ClassResult], classes: Sequence[str]) -> dict[str, Any]:
    """The figures of results that are there already; see `figures`."""
    return {
        "map_voc2007": _known(voc_ap.mean([result.ap_11 for result in results])),
        "map": _known(voc_ap.mean([result.ap for result in results])),
        "classes": {
            name: {
                "ap_voc2007": _known(result.ap_11),
                "ap": _known(result.ap),
                "objects": result.positives,
                "detections": result.detections,
            }
            for name, result in zip(classes, results, strict=True)
        },
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def coco_figures(
    found: voc_ap.Predictions,
    there: voc_ap.GroundTruth,
    sizes: Sequence[tuple[int, int]],
    classes: Sequence[str],
) -> dict[str, float] | None:
    """COCO's figures: mAP over thresholds 0.5 to 0.95 in steps of 0.05, and at 0.5 and 0.75.

    Difficult objects are COCO's `iscrowd`, which counts neither way. At most 100 detections a
    image, as COCO has it.

    Returns:
        None where faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        return None
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [
            {"id": i, "width": int(width), "height": int(height)}
            for i, (width, height) in enumerate(sizes)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
        "annotations": [
            {**row, "id": k, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": int(difficult)}
            for k, (row, difficult) in enumerate(
                zip(_coco_rows(there), there.difficult, strict=True), start=1
            )
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        rows = [
            {**row, "score": float(score)}
            for row, score in zip(_coco_rows(found), found.scores, strict=True)
        ]
        if not rows:
            return {"map": 0.0, "map_50": 0.0, "map_75": 0.0}
        evaluation = COCOeval_faster(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("map", "map_50", "map_75")
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=False)}


def _coco_rows(table: voc_ap.GroundTruth | voc_ap.Predictions) -> list[dict[str, Any]]:
    corners = table.boxes.astype(float)
    sized = np.column_stack((corners[:, :2], corners[:, 2:] - corners[:, :2])).tolist()
    columns = zip(table.image_index.tolist(), table.label.tolist(), sized, strict=True)
    return [{"image_id": i, "category_id": k, "bbox": box} for i, k, box in columns]


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    width = max(map(len, [*result["classes"], "mean"]))
    lines = [f"{'class':{width}}  objects  found  AP VOC2007  AP all-point"]
    for name, row in result["classes"].items():
        lines.append(
            f"{name:{width}}  {row['objects']:7}  {row['detections']:5}  "
            f"{_percent(row['ap_voc2007']):>10}  {_percent(row['ap']):>12}"
        )
    lines.append(
        f"{'mean':{width}}  {'':7}  {'':5}  {_percent(result['map_voc2007']):>10}  "
        f"{_percent(result['map']):>12}"
    )
    if result.get("coco"):
        coco = result["coco"]
        lines.append(
            f"COCO mAP {coco['map']:.4f} (IoU 0.5 to 0.95), {coco['map_50']:.4f} at 0.5, "
            f"{coco['map_75']:.4f} at 0.75"
        )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("weights", type=Path, help="native weights file")
    parser.add_argument("--data", type=Path, required=True, help="VOC-format folder, or VOCdevkit")
    parser.add_argument("--sets", default="test", help="image sets joined by +")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16")
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--no-coco", action="store_true", help="PASCAL VOC figures alone")
    options = parser.parse_args(arguments)
    try:
        detector = Detector(options.weights, options.device, options.precision, THRESHOLDS)
        items = voc.find_items(options.data, options.sets)
        examples, classes = batches.load(items, detector.classes)
        start = time.perf_counter()
        found = detect(detector, examples, options.batch)
        seconds = time.perf_counter() - start
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    there = objects(examples)
    result = {
        "weights": str(options.weights),
        "data": str(options.data),
        "sets": options.sets,
        "images": len(examples),
        "device": detector.device,
        "precision": detector.precision,
        "images_per_second": round(len(examples) / seconds, 2),
        **figures(found, there, classes),
    }
    if not options.no_coco:
        result["coco"] = coco_figures(found, there, batches.sizes(examples), classes)
        if result["coco"] is None:
            print("no COCO figures: pip install faster-coco-eval", file=sys.stderr)
    print(table(result))
    if options.json:
        atomic.write(options.json, (json.dumps(result, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
