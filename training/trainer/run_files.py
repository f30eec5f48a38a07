# SPDX-License-Identifier: Apache-2.0
"""The files of a run: record, checkpoint, metrics, weights. Each is written whole or not at all."""

from __future__ import annotations

import io
import json
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import torch

from ssd_ros import atomic

CHECKPOINT, METRICS, RECORD = "checkpoint.pt", "metrics.jsonl", "run.json"
BEST, LAST = "best.safetensors", "last.safetensors"


def write_checkpoint(out: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint of a run."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    atomic.write(out / CHECKPOINT, buffer.getvalue())


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The checkpoint of a run on the CPU, None where it has none.

    Raises:
        ValueError: the file cannot be read.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"checkpoint '{path}' cannot be read: {error}") from None


def add_session(
    out: Path,
    iteration: int,
    arguments: Sequence[str],
    options: Mapping[str, Any],
    classes: Sequence[str],
    device: str,
) -> None:
    """Notes in `run.json` how this session of a run was started, beside those before it."""
    path = out / RECORD
    before = read_record(out)["sessions"] if path.exists() else []
    session = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "iteration": iteration,
        "command": shlex.join(["python", "-m", "training.train", *arguments]),
        "device": device,
        "versions": {
            "Python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "torchvision", "numpy")},
            "OpenCV": cv2.__version__,
        },
    }
    record = {"options": dict(options), "classes": list(classes), "sessions": [*before, session]}
    atomic.write(path, (json.dumps(record, indent=2) + "\n").encode())


def read_record(out: Path) -> dict[str, Any]:
    """What `run.json` holds: `options`, `classes`, and `sessions` in the order of their starts.

    Raises:
        ValueError: the folder is not one of a run, or the file is broken.
    """
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {name: record[name] for name in ("options", "classes", "sessions")}
    except FileNotFoundError:
        raise ValueError(f"'{out}' is not the folder of a run: it has no {RECORD}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is not as training.train writes it: {error!r}") from None


class Metrics:
    """`metrics.jsonl`, one object a line, and TensorBoard events where they are wanted.

    Args:
        out: folder of the run.
        iteration: lines of later iterations are dropped: a resumed run writes them again.
        tensorboard: write events to out/tensorboard.
    """

    def __init__(self, out: Path, iteration: int, tensorboard: bool) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / METRICS
        kept = [row for row in read_metrics(out) if row["iteration"] <= iteration]
        atomic.write(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._events = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(out / "tensorboard", purge_step=iteration + 1)

    def add(self, iteration: int, **values: float | None) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                if value is not None:
                    self._events.add_scalar(name, value, iteration)
            self._events.flush()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; a last one that was cut short is left out."""
    path = out / METRICS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
