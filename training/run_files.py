# SPDX-License-Identifier: Apache-2.0
"""The files of a run: checkpoint, metrics, weights. Each is written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssd_ros import atomic

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
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
