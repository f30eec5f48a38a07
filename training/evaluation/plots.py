# SPDX-License-Identifier: Apache-2.0
"""The report's diagrams, each as SVG text to be put into a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ssd_ros.drawing import class_colour
from training.evaluation.voc_ap import ClassResult

_MAX_POINTS = 1000  # of each class: a page with all of a large dataset would be slow
_STYLE: Any = {  # letters stay text: smaller, and found by the browser's search
    "svg.fonttype": "none",
    "svg.hashsalt": "ssd_ros",
    "font.family": "sans-serif",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def loss(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Both parts of the loss and their sum over the iterations."""
    rows = [row for row in metrics if "loss" in row]
    iterations = [row["iteration"] for row in rows]
    figure, axes = _figure("iteration", "loss per matched box")
    for name in ("loss", "classification", "location"):
        axes.plot(iterations, [row.get(name) for row in rows], label=name)
    axes.set_ylim(bottom=0)
    axes.legend()
    return _svg(figure)


def learning_rate(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The learning rate over the iterations."""
    rows = [row for row in metrics if "lr" in row]
    figure, axes = _figure("iteration", "learning rate")
    axes.plot([row["iteration"] for row in rows], [row["lr"] for row in rows])
    axes.set_ylim(bottom=0)
    return _svg(figure)


def validation(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Mean average precision at each validation."""
    rows = [row for row in metrics if row.get("map_voc2007") is not None]
    figure, axes = _figure("iteration", "mAP at IoU 0.5")
    for key, name in (("map_voc2007", "11-point (VOC2007)"), ("map", "all-point")):
        axes.plot([r["iteration"] for r in rows], [r.get(key) for r in rows], "o-", label=name)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right")
    return _svg(figure)


def precision_recall(results: Sequence[ClassResult], classes: Sequence[str]) -> str:
    """Precision over recall of each class that has objects."""
    figure, axes = _figure("recall", "precision")
    for label, (result, name) in enumerate(zip(results, classes, strict=True)):
        if not result.positives:
            continue
        recall = np.concatenate(([0.0], result.recall))
        precision = np.concatenate((result.precision[:1], result.precision))
        if len(result.recall):
            axes.plot(
                recall, precision, color=_rgb(label), label=f"{_text(name)} ({result.ap:.3f})"
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    if axes.lines:
        axes.legend(loc="lower left", title="class (all-point AP)")
    return _svg(figure)


def box_sizes(sizes: Sequence[np.ndarray], classes: Sequence[str]) -> str:
    """How large the objects of each class are.

    Args:
        sizes: for each class the square root of each box's share of its image, 0 to 1.
        classes: their names.
    """
    figure, axes = _figure("side of the box / side of the image", "objects")
    edges = np.linspace(0, 1, 26)
    for label, (values, name) in enumerate(zip(sizes, classes, strict=True)):
        axes.hist(
            values, edges, histtype="step", color=_rgb(label), label=_text(name), linewidth=1.5
        )
    axes.set_xlim(0, 1)
    axes.legend(loc="upper right")
    return _svg(figure)


def box_shapes(
    shapes: Sequence[np.ndarray],
    classes: Sequence[str],
    default_shapes: Mapping[str, np.ndarray],
    side: int,
) -> str:
    """Width and height of the objects of each class, and of the default boxes.

    Args:
        shapes: for each class (N, 2), in pixels of the network's input.
        classes: their names.
        default_shapes: (N, 2) in the same pixels, by name.
        side: of the network's input in pixels.
    """
    figure, axes = _figure(f"width on the {side}×{side} input", "height")
    for label, (points, name) in enumerate(zip(shapes, classes, strict=True)):
        shown = points[:: max(1, len(points) // _MAX_POINTS)].clip(1)
        axes.plot(*shown.T, ".", color=_rgb(label), label=_text(name), markersize=3, alpha=0.6)
    for (name, points), marker in zip(default_shapes.items(), "+x", strict=False):
        axes.plot(*points.T, marker, color="black", label=name, markersize=6, alpha=0.7)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(2, side * 1.1)
    axes.set_ylim(2, side * 1.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.legend(loc="lower right", fontsize="small", ncols=1 + len(classes) // 8)
    return _svg(figure)


def _text(name: str) -> str:
    """A class name that matplotlib shows as it is: no formula, and not hidden from the legend."""
    return ("\N{ZERO WIDTH SPACE}" if name.startswith("_") else "") + name.replace("$", r"\$")


def _rgb(label: int) -> tuple[float, float, float]:
    blue, green, red = class_colour(label)
    return 0.8 * red / 255, 0.8 * green / 255, 0.8 * blue / 255  # darker: it is on white


def _figure(x: str, y: str) -> tuple[Figure, Any]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return figure, axes


def _svg(figure: Figure) -> str:
    target = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(target, format="svg", metadata={"Date": None}, transparent=True)
    text = target.getvalue()
    return text[text.index("<svg") :]
