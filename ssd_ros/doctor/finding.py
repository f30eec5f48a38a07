# SPDX-License-Identifier: Apache-2.0
"""Findings, and how they are shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

OK, WARN, FAIL = "OK", "WARN", "FAIL"
LEVELS = (OK, WARN, FAIL)
_WIDTH = 110
_INDENT = " " * 7


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: of LEVELS. With FAIL there will be no detections.
        what: what was found.
        fix: what to do about it; empty for OK.
    """

    level: str
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Section:
    """Findings about one subject."""

    title: str
    findings: Sequence[Finding]


def worst(sections: Iterable[Section]) -> str:
    """The highest level of all findings; OK without any."""
    levels = [finding.level for section in sections for finding in section.findings]
    return max(levels, key=LEVELS.index, default=OK)


def as_text(section: Section) -> str:
    """Lines of plain text, each fix below its finding."""
    lines = [section.title]
    for finding in section.findings:
        lines += _wrapped(f"  {finding.level:4} ", finding.what)
        lines += _wrapped(f"{_INDENT}-> ", finding.fix) if finding.fix else []
    return "\n".join(lines)


def as_json(sections: Sequence[Section]) -> dict[str, Any]:
    """All findings as plain values."""
    return {
        "level": worst(sections),
        "sections": [
            {"title": s.title, "findings": [asdict(finding) for finding in s.findings]}
            for s in sections
        ],
    }


def _wrapped(start: str, text: str) -> list[str]:
    # Names and texts of a ROS graph can be anything, and terminals obey control characters.
    shown = "".join(c if c.isprintable() else ascii(c).strip("'") for c in text)
    # Commands are copied from here: no word is cut, and no hyphen is a place to break.
    return textwrap.wrap(
        shown,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
