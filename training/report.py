# SPDX-License-Identifier: Apache-2.0
"""What a training run came to, as one page with images: python -m training.report RUN.

The page holds everything in itself and opens without a network. It is made anew from the run's
files and its data set each time, by detecting in the images of the run's validation sets.
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ssd_ros import atomic, drawing
from ssd_ros.detector import Detector
from ssd_ros.io import image_files
from training import evaluate
from training.data import batches, voc
from training.evaluation import plots, voc_ap
from training.trainer import run_files

SURE = 0.5  # score from which a detection is drawn and judged in the images: the node's default
SHOWN = 6  # best and worst images each
_SIDE = 480  # pixels of the longer side of an image on the page
_TRUE, _FALSE, _MISSED = (60, 160, 30), (40, 40, 220), (0, 190, 255)  # BGR

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em;
  color: #222 }}
h1 {{ font-size: 1.6em }} h2 {{ font-size: 1.2em; margin-top: 2em }}
table {{ border-collapse: collapse }} td, th {{ padding: .25em .9em; text-align: right;
  border-bottom: 1px solid #ddd }} td:first-child, th:first-child {{ text-align: left }}
pre {{ background: #f4f4f4; padding: .8em; white-space: pre-wrap; overflow-wrap: anywhere }}
figure {{ display: inline-block; margin: 0 1em 1em 0; vertical-align: top }}
figcaption {{ font-size: .85em; color: #555; max-width: 480px }}
svg {{ max-width: 560px; height: auto }} .big {{ font-size: 2em }}
.true {{ color: #1ea03c }} .false {{ color: #dc2828 }} .missed {{ color: #d79a00 }}
</style></head><body>
{body}
</body></html>
"""


def page(run: Path, weights: Path, data: Path, device: str) -> str:
    """The page of a run.

    Args:
        run: folder that training.train wrote.
        weights: file to detect with.
        data: where the data set is now.
        device: auto, cpu, cuda, cuda:N.

    Raises:
        ValueError, OSError: a file of the run or of the data set is missing or broken.
    """
    record = run_files.read_record(run)
    options, metrics = record["options"], run_files.read_metrics(run)
    detector = Detector(weights, device, "fp32", evaluate.THRESHOLDS)
    classes = detector.classes
    sections = [f"<h1>{escape(run.resolve().name)}</h1>"]

    trained, _ = batches.load(voc.find_items(data, options["sets"]), classes)
    tables, judged = [(options["sets"], trained)], ""
    if options["val_sets"] != "none":
        examples, _ = batches.load(voc.find_items(data, options["val_sets"]), classes)
        tables.append((options["val_sets"], examples))
        judged = _judged(detector, examples, weights.name, options["val_sets"])
    sections += [judged, _curves(metrics), _statistics(tables, classes), _sessions(record)]
    return _PAGE.format(title=escape(f"{run.resolve().name}: SSD300"), body="\n".join(sections))


# --- sections -----------------------------------------------------------------------------------


def _judged(
    detector: Detector, examples: Sequence[batches.Example], weights: str, sets: str
) -> str:
    found = evaluate.detect(detector, examples)
    there = evaluate.objects(examples)
    classes = detector.classes
    results = voc_ap.evaluate(found, there, len(classes))
    result, curves = evaluate.summary(results, classes), plots.precision_recall(results, classes)
    rows = [
        (name, row["objects"], row["detections"], _figure(row["ap_voc2007"]), _figure(row["ap"]))
        for name, row in result["classes"].items()
    ]
    rows.append(("mean", "", "", _figure(result["map_voc2007"]), _figure(result["map"])))
    header = ("class", "objects", "detections", "AP 11-point", "AP all-point")
    return f"""<p class="big">mAP (VOC2007) {_figure(result["map_voc2007"])}</p>
<p>{escape(weights)} on {len(examples)} images of {escape(sets)}, IoU 0.5, by the rules of the
PASCAL VOC development kit.</p>
{_table(header, rows)}
<h2>Precision and recall</h2>{curves}
{_images(found, there, examples, classes)}"""


def _curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    drawn = []
    if any("loss" in row for row in metrics):
        drawn += [plots.loss(metrics), plots.learning_rate(metrics)]
    if any(row.get("map_voc2007") is not None for row in metrics):
        drawn.append(plots.validation(metrics))
    return "<h2>Training</h2>" + "".join(f"<figure>{svg}</figure>" for svg in drawn)


def _statistics(
    sets: Sequence[tuple[str, Sequence[batches.Example]]], classes: Sequence[str]
) -> str:
    header = ("image sets", "images", "without objects", "left out", "difficult", *classes)
    rows = []
    for name, examples in sets:
        there = evaluate.objects(examples)
        rows.append(
            (
                name,
                len(examples),
                sum(not len(example.labels) for example in examples),
                batches.dropped_boxes(examples).total(),
                int(there.difficult.sum()),
                *np.bincount(there.label, minlength=len(classes)).tolist(),
            )
        )
    sizes = _relative_sizes(sets[0][1], len(classes))
    return f"""<h2>Data</h2>{_table(header, rows)}
<p>Left out of the training: boxes without an area inside the image.</p>
{plots.box_sizes(sizes, classes)}"""


def _sessions(record: Mapping[str, Any]) -> str:
    parts = ["<h2>How it was made</h2>"]
    for session in record["sessions"]:
        versions = ", ".join(f"{name} {value}" for name, value in session["versions"].items())
        parts.append(
            f"<p>{escape(session['date'])}, from iteration {session['iteration']}, "
            f"{escape(session['device'])}; {escape(versions)}</p>"
            f"<pre>{escape(session['command'])}</pre>"
        )
    rows = [(name, value) for name, value in record["options"].items()]
    parts.append(f"<details><summary>All options</summary>{_table(('option', ''), rows)}</details>")
    return "".join(parts)


def _images(
    found: voc_ap.Predictions,
    there: voc_ap.GroundTruth,
    examples: Sequence[batches.Example],
    classes: Sequence[str],
) -> str:
    """The best and the worst images by F1 among detections that the node would publish."""
    sure = found.scores >= SURE
    found = voc_ap.Predictions(
        *(c[sure] for c in (found.image_index, found.label, found.boxes, found.scores))
    )
    verdicts = voc_ap.judge(found, there, len(classes))
    missed = ~there.difficult
    missed[verdicts.target[verdicts.true]] = False

    def count(images: np.ndarray) -> np.ndarray:
        return np.bincount(images, minlength=len(examples))

    right = count(found.image_index[verdicts.true])
    wrong = count(found.image_index[~verdicts.true & ~verdicts.ignored])
    lost = count(there.image_index[missed])
    all_of_them = 2 * right + wrong + lost
    f1 = np.divide(2 * right, all_of_them, out=np.ones(len(examples)), where=all_of_them > 0)
    order = np.lexsort((-all_of_them, -f1))  # of equally good images the fuller ones first
    if len(order) > 2 * SHOWN:
        chosen = [("Best images", order[:SHOWN]), ("Worst images", order[: -SHOWN - 1 : -1])]
    else:
        chosen = [("Images, best first", order)]

    parts = [
        f"<p>Detections with a score of {SURE} or more: <b class=true>right</b>, <b class=false>"
        "wrong</b>, and objects that were <b class=missed>missed</b>.</p>"
    ]
    for title, images in chosen:
        parts.append(f"<h2>{title}</h2>")
        for i in images.tolist():
            boxes = []
            for row in np.flatnonzero(missed & (there.image_index == i)).tolist():
                boxes.append((there.boxes[row], classes[there.label[row]], _MISSED))
            for row in np.flatnonzero((found.image_index == i) & ~verdicts.ignored).tolist():
                text = drawing.caption(classes[found.label[row]], found.scores[row])
                boxes.append((found.boxes[row], text, _TRUE if verdicts.true[row] else _FALSE))
            caption = (
                f"{examples[i].item.image.name}: {right[i]} right, {wrong[i]} wrong, "
                f"{lost[i]} missed"
            )
            source = _data_uri(_drawn(image_files.read(examples[i].item.image), boxes))
            parts.append(
                f'<figure><img src="{source}" alt="{escape(caption)}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
    return "\n".join(parts)


# --- pieces -------------------------------------------------------------------------------------


def _relative_sizes(examples: Sequence[batches.Example], classes: int) -> list[np.ndarray]:
    """For each class the square root of each box's share of its image."""
    sizes = batches.sizes(examples)
    shares = [
        np.sqrt((e.boxes[:, 2:] - e.boxes[:, :2]).clip(0).prod(axis=1) / max(1, width * height))
        for e, (width, height) in zip(examples, sizes, strict=True)
    ]
    share = np.concatenate(shares)
    label = np.concatenate([e.labels for e in examples])
    return [share[label == k] for k in range(classes)]


def _drawn(
    image: np.ndarray, boxes: Iterable[tuple[np.ndarray, str, tuple[int, int, int]]]
) -> np.ndarray:
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for box, text, colour in boxes:
        drawing.outline(canvas, box * scale, text, colour)
    return canvas


def _data_uri(image: np.ndarray) -> str:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done, "OpenCV always has JPEG"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["".join(f"<th>{escape(name)}</th>" for name in header)]
    lines += ["".join(f"<td>{escape(str(value))}</td>" for value in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a run, --out of training.train")
    parser.add_argument(
        "--weights", type=Path, help=f"file to judge (default: RUN/{run_files.BEST})"
    )
    parser.add_argument("--data", type=Path, help="where the data set is now (default: as trained)")
    parser.add_argument("--out", type=Path, help="default: RUN/report.html")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    given = parser.parse_args(arguments)
    out = given.out or given.run / "report.html"
    try:
        data = given.data or Path(run_files.read_record(given.run)["options"]["data"])
        weights = given.weights or given.run / run_files.BEST
        text = page(given.run, weights, data, given.device)
        atomic.write(out, text.encode())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {len(text) / 2**20:.1f} MB, opens in any browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
