# SPDX-License-Identifier: Apache-2.0
"""Metrics of detections: PASCAL VOC's and COCO's, as dictionaries and as text."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation import voc_ap
from training.evaluation.matching import GroundTruth, Predictions


def compute_metrics(
    detections: Predictions, ground_truth: GroundTruth, classes: Sequence[str]
) -> dict[str, Any]:
    """PASCAL VOC metrics at an intersection over union of 0.5, ready for JSON.

    Returns:
        `map_voc2007` and `map` (all-point), 0 to 1, and for each class its `ap_voc2007`, `ap`,
        `objects` and `detections`; None where a class has no objects.
    """
    return to_dict(voc_ap.evaluate(detections, ground_truth, len(classes)), classes)


def to_dict(results: Sequence[voc_ap.ClassResult], classes: Sequence[str]) -> dict[str, Any]:
    """Results of `voc_ap.evaluate` ready for JSON; see `compute_metrics`."""
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


def coco_metrics(
    detections: Predictions,
    ground_truth: GroundTruth,
    sizes: Sequence[tuple[int, int]],
    classes: Sequence[str],
) -> dict[str, float | None] | None:
    """COCO's metrics: mAP over thresholds 0.5 to 0.95 in steps of 0.05, and at 0.5 and 0.75.

    Difficult objects are COCO's `iscrowd`, which is counted neither way. At most 100 detections
    per image, as COCO defines it.

    Args:
        sizes: width and height of each image.

    Returns:
        None where faster-coco-eval is not installed; the values are None where no object counts.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        return None
    names = ("map", "map_50", "map_75")
    if ground_truth.difficult.all():
        return dict.fromkeys(names)
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [
            {"id": i, "width": int(width), "height": int(height)}
            for i, (width, height) in enumerate(sizes)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
        "annotations": [
            {**row, "id": k, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": int(difficult)}
            for k, (row, difficult) in enumerate(
                zip(_coco_rows(ground_truth), ground_truth.difficult, strict=True), start=1
            )
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        rows = [
            {**row, "score": float(score)}
            for row, score in zip(_coco_rows(detections), detections.scores, strict=True)
        ]
        if not rows:
            return dict.fromkeys(names, 0.0)
        evaluation = COCOeval_faster(coco, coco.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=False)}


def _coco_rows(table: GroundTruth | Predictions) -> list[dict[str, Any]]:
    corners = table.boxes.astype(float)
    sized = np.column_stack((corners[:, :2], corners[:, 2:] - corners[:, :2])).tolist()
    columns = zip(table.image_index.tolist(), table.label.tolist(), sized, strict=True)
    return [{"image_id": i, "category_id": k, "bbox": box} for i, k, box in columns]


def format_table(metrics: dict[str, Any]) -> str:
    """Metrics of `compute_metrics`, and of COCO under the key `coco`, as lines of text."""
    width = max(map(len, [*metrics["classes"], "mean"]))
    lines = [f"{'class':{width}}  objects  detections  AP VOC2007  AP all-point"]
    for name, row in metrics["classes"].items():
        lines.append(
            f"{name:{width}}  {row['objects']:7}  {row['detections']:10}  "
            f"{_percent(row['ap_voc2007']):>10}  {_percent(row['ap']):>12}"
        )
    lines.append(
        f"{'mean':{width}}  {'':7}  {'':10}  {_percent(metrics['map_voc2007']):>10}  "
        f"{_percent(metrics['map']):>12}"
    )
    if metrics["map"] is None:
        lines.append("mAP undefined: no object is without the mark 'difficult'")
    if metrics.get("coco"):
        coco = metrics["coco"]
        lines.append(
            f"COCO mAP {_percent(coco['map'])} (IoU 0.5 to 0.95), {_percent(coco['map_50'])} at "
            f"0.5, {_percent(coco['map_75'])} at 0.75"
        )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
