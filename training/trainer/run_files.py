# SPDX-License-Identifier: Apache-2.0
"""The files of a run; each is written completely or not at all.

`run.json` (how it was started), `checkpoint.pt`, `metrics.jsonl`, and two weights files.
"""

from __future__ import annotations

import contextlib
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

CHECKPOINT, METRICS, RUN_INFO = "checkpoint.pt", "metrics.jsonl", "run.json"
_KEYS = ("options", "classes", "processes", "progress", "model", "optimizer", "average", "scaler")
BEST, LAST = "best.safetensors", "last.safetensors"


def write_checkpoint(out: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint of a run."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    atomic.write(out / CHECKPOINT, buffer.getvalue())


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The checkpoint of a run on the CPU, None where it has none.

    Raises:
        ValueError: the file cannot be read, or is none of `write_checkpoint`.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises nearly anything at broken data
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(f"checkpoint '{path}' cannot be read: {reason}") from None
    missing = [key for key in _KEYS if key not in state] if isinstance(state, dict) else _KEYS
    if missing:
        raise ValueError(f"'{path}' is not a checkpoint of training.train: it lacks '{missing[0]}'")
    return state


def check_resumable(
    state: Mapping[str, Any], classes: Sequence[str], data: str, processes: int
) -> None:
    """Checks that a checkpoint fits the dataset and the number of processes.

    Args:
        data: fingerprint of the dataset; old checkpoints have none.

    Raises:
        ValueError: it does not.
    """
    if list(state["classes"]) != list(classes):
        raise ValueError(
            f"the dataset has the classes {', '.join(classes)}, the run to resume "
            f"{', '.join(state['classes'])}"
        )
    if state.get("data", data) != data:
        raise ValueError(
            "the dataset is not that of the run to resume: its images, boxes or their order have "
            "changed; restore them, or start another run with --init and another --out"
        )
    if state["processes"] != processes:
        raise ValueError(f"the run to resume has {state['processes']} processes, not {processes}")


def add_session(
    out: Path,
    iteration: int,
    arguments: Sequence[str],
    options: Mapping[str, Any],
    classes: Sequence[str],
    device: str,
) -> None:
    """Appends this session of a run to `run.json`.

    Args:
        out: folder of the run.
        iteration: at which the session starts.
        arguments: the command line.
        options, classes: of the run.
        device: in words.

    Raises:
        ValueError: an existing `run.json` is broken.
    """
    path = out / RUN_INFO
    before = read_run_info(out)["sessions"] if path.exists() else []
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
    info = {"options": dict(options), "classes": list(classes), "sessions": [*before, session]}
    atomic.write(path, (json.dumps(info, indent=2) + "\n").encode())


def read_run_info(out: Path) -> dict[str, Any]:
    """The content of `run.json`: `options`, `classes`, and `sessions` in the order of their starts.

    Raises:
        ValueError: the folder is not a run folder, or the file is broken.
    """
    path = out / RUN_INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        for name in ("data", "sets", "val_sets"):
            _expect(info["options"][name], str)
        for session in _expect(info["sessions"], list):
            _expect(session["versions"], dict)
            _expect(session["iteration"], int)
            for name in ("date", "device", "command"):
                _expect(session[name], str)
        return {name: info[name] for name in ("options", "classes", "sessions")}
    except FileNotFoundError:
        raise ValueError(f"'{out}' is not the folder of a run: it has no {RUN_INFO}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is not a run.json of training.train: {error!r}") from None


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {value!r:.80}")
    return value


class Metrics:
    """Writes `metrics.jsonl`, one object per line, and optionally TensorBoard events.

    Args:
        out: folder of the run.
        iteration: lines of later iterations are dropped: the resumed run writes them again.
        tensorboard: write events to out/tensorboard.
        enabled: False in processes that write no files; `add` then does nothing.
    """

    def __init__(self, out: Path, iteration: int, tensorboard: bool, enabled: bool = True) -> None:
        self._enabled, self._path, self._events = enabled, out / METRICS, None
        if not enabled:
            return
        out.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(out) if row["iteration"] <= iteration]
        atomic.write(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(out / "tensorboard", purge_step=iteration + 1)

    def add(self, iteration: int, **values: float | None) -> None:
        """Appends the values of an iteration; None becomes null, and is not a TensorBoard event."""
        if not self._enabled:
            return
        with atomic.errors_name(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                if value is not None:
                    self._events.add_scalar(name, value, iteration)
            self._events.flush()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; empty without a file. Damaged lines are dropped."""
    path = out / METRICS
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            numbers = isinstance(row, dict) and all(
                isinstance(value, int | float | None) for value in row.values()
            )
            if numbers and isinstance(row.get("iteration"), int):
                rows.append(row)
    return rows
