# SPDX-License-Identifier: Apache-2.0
"""What went wrong lately, for the diagnostics."""

from __future__ import annotations

import math
import time

REMEMBERED = 10.0  # seconds for which a failure stays in the summary of a status


class FailureLog:
    """Counts failures and keeps the last one; any thread may call it.

    Attributes:
        count: all failures so far.
        last: text of the last one; empty without one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = ""
        self._last_at = -math.inf

    @property
    def recent(self) -> bool:
        """Whether the last failure was less than REMEMBERED seconds ago."""
        return time.monotonic() - self._last_at < REMEMBERED

    def note(self, text: str) -> None:
        """Adds a failure."""
        self.count += 1
        self.last = text
        self._last_at = time.monotonic()
