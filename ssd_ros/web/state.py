# SPDX-License-Identifier: Apache-2.0
"""What the web page shows beside the images, from the node's diagnostics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus

LEVELS = ("ok", "warn", "error", "stale")


@dataclass(frozen=True)
class _Status:
    """One status of the diagnostics, and when it was noted."""

    level: str
    message: str
    values: dict[str, str]
    time: float

    def number(self, name: str) -> float | None:
        """A finite number among the values; None without it."""
        try:
            value = float(self.values[name])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) else None


class PageState:
    """The newest diagnostics of a node; one thread notes them and any thread reads them.

    Args:
        node: fully qualified name of the node.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        # Replaced as a whole, so that a reader has all of one message: the statuses by name, and
        # images per second by the same.
        self._current: tuple[dict[str, _Status], dict[str, float]] = ({}, {})

    def note(self, statuses: Iterable[DiagnosticStatus], now: float) -> None:
        """Takes one message of diagnostics.

        Args:
            statuses: of the node and its cameras.
            now: seconds, of a clock that never goes back.
        """
        new = {status.name: _read(status, now) for status in statuses}
        before, rates = self._current[0], {}
        for name, status in new.items():
            done = status.number("processed")
            if name in before and done is not None:
                earlier = before[name].number("processed")
                passed = now - before[name].time
                if earlier is not None and done >= earlier and passed > 0:
                    rates[name] = (done - earlier) / passed
        self._current = (new, rates)

    def to_dict(
        self, score_threshold: float, class_filter: Sequence[str], classes: Sequence[str]
    ) -> dict[str, Any]:
        """What the page shows, for JSON.

        Args:
            score_threshold, class_filter: values of the parameters.
            classes: all class names of the weights; empty without weights.
        """
        statuses, rates = self._current
        start = f"{self._node}: "
        node = statuses.get(self._node)
        return {
            "node": {
                "name": self._node,
                "level": node.level if node else "warn",
                "message": node.message if node else "starting",
                "inference_ms": node.number("inference median (ms)") if node else None,
            },
            "cameras": [
                {
                    "topic": name.removeprefix(start),
                    "level": status.level,
                    "message": status.message,
                    "rate": rates.get(name),
                    "latency_ms": status.number("latency median (ms)"),
                }
                for name, status in statuses.items()
                if name.startswith(start)
            ],
            "score_threshold": score_threshold,
            "class_filter": [name for name in class_filter if name],
            "classes": list(classes),
        }


def _read(status: DiagnosticStatus, now: float) -> _Status:
    level = LEVELS[min(int.from_bytes(status.level, "little"), len(LEVELS) - 1)]
    return _Status(level, status.message, {v.key: v.value for v in status.values}, now)
