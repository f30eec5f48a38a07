# SPDX-License-Identifier: Apache-2.0
"""One status of /diagnostics."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue


def milliseconds(name: str, seconds: Sequence[float]) -> dict[str, str]:
    """Median and 95th percentile in milliseconds; nothing for fewer than two values."""
    if len(seconds) < 2:
        return {}
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return {
        f"{name} median (ms)": f"{1e3 * statistics.median(seconds):.1f}",
        f"{name} p95 (ms)": f"{1e3 * p95:.1f}",
    }


def make_status(
    name: str, hardware_id: str, level: bytes, summary: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """A status whose values are shown as text."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(
        name=name, hardware_id=hardware_id, level=level, message=summary, values=pairs
    )
