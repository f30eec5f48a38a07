# SPDX-License-Identifier: Apache-2.0
"""What went wrong lately, for the diagnostics, and what of it is logged."""

from __future__ import annotations

import math
import re
import threading
import time

REMEMBERED = 10.0  # seconds for which a failure stays in the summary of a status
LOG_EVERY = 1.0  # seconds between two log lines about problems of one source
_MOST_KINDS = 32  # that are remembered; a source may have a new one in each message


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


def kind_of(reason: str) -> str:
    """What stays the same of a reason while the numbers and addresses in it change."""
    return re.sub(r"0x[0-9a-f]+|\d+", "", reason)


class RecurringProblems:
    """Tells which of the problems that come with every message are logged: those that begin.

    Any thread may call it.

    Args:
        gone_after: seconds without a problem after which it has ended, if there was a success.
        log_every: seconds between two that begin; what would begin in between does so later.
    """

    def __init__(self, gone_after: float = REMEMBERED, log_every: float = LOG_EVERY) -> None:
        self._gone_after, self._log_every = gone_after, log_every
        self._seen: dict[str, float] = {}  # kinds of problems, and when they were last seen
        self._lock = threading.Lock()
        self._began_at = -math.inf

    def begins(self, kind: str) -> bool:
        """Notes a problem. Returns whether it begins, which is to be logged.

        Args:
            kind: the same for problems of which one log line is enough.
        """
        with self._lock:
            now = time.monotonic()
            new = kind not in self._seen
            if new and now - self._began_at < self._log_every:
                return False
            self._began_at = now if new else self._began_at
            self._seen.pop(kind, None)  # put last: the first is the one that was not seen longest
            self._seen[kind] = now
            if len(self._seen) > _MOST_KINDS:
                del self._seen[next(iter(self._seen))]
            return new

    def begins_now(self, text: str) -> bool:
        """Like `begins`, for problems without `note_success`: one not seen for a while has ended.

        Args:
            text: may have numbers that change.
        """
        self.note_success()
        return self.begins(kind_of(text))

    def note_success(self) -> None:
        """Ends the problems that have not been seen for a while."""
        if not self._seen:
            return
        with self._lock:
            last = time.monotonic() - self._gone_after
            self._seen = {kind: at for kind, at in self._seen.items() if at > last}
