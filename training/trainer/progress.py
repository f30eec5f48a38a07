# SPDX-License-Identifier: Apache-2.0
"""How far a run is: what a checkpoint holds besides tensors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from training.trainer.distributed import Processes

LOG_EVERY = 10  # iterations between two lines of the metrics
SECONDS = 60.0  # between two lines of a log


class LogLines(tqdm):
    """A progress bar for files and pipes: a new line every minute, and one at the end."""

    monitor_interval = 0  # no thread that prints in between

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "mininterval": SECONDS, "miniters": 1})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        print(self.format_meter(**{**self.format_dict, "ncols": 0}), file=sys.stderr, flush=True)
        return True


def bar(**options: Any) -> tqdm[Any]:
    """A progress bar of tqdm, or `LogLines` where nobody watches."""
    return (tqdm if sys.stderr.isatty() else LogLines)(**options)


@dataclass
class Progress:
    """Counters of a run; the field names are those in checkpoints.

    Attributes:
        iteration: optimiser steps done.
        best: highest validation mAP (VOC2007) so far, -1 before the first validation.
        sums: classification and localisation loss, summed since the last line of the metrics.
        seconds: time spent in steps, over all sessions.
        steps: that `sums` are of.
    """

    iteration: int = 0
    best: float = -1.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seconds: float = 0.0
    steps: int = 0

    @classmethod
    def from_checkpoint(cls, values: Mapping[str, Any]) -> Progress:
        """The counters in a checkpoint; older ones do not have `steps`."""
        since_log = values["iteration"] % LOG_EVERY if any(values["sums"]) else 0
        return cls(**{"steps": since_log, **values})

    def add(self, losses: Sequence[float], seconds: float) -> None:
        """Counts a step: its classification and localisation loss, and its time."""
        self.sums = [a + b for a, b in zip(self.sums, losses, strict=True)]
        self.seconds += seconds
        self.steps += 1

    def take_mean_losses(self, processes: Processes) -> dict[str, float]:
        """Mean losses of all processes since the last call; every process must call it."""
        sums = processes.sum(*self.sums)
        classification, location = (value / self.steps / processes.count for value in sums)
        self.sums, self.steps = [0.0, 0.0], 0
        return {
            "loss": classification + location,
            "classification": classification,
            "location": location,
        }
