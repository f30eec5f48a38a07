# SPDX-License-Identifier: Apache-2.0
"""The table of the detector's parameters in the documentation, made from `parameter_table`.

`python -m ssd_ros.ros.parameter_docs FILE` replaces the table in a Markdown file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssd_ros import atomic
from ssd_ros.ros.parameter_table import DETECTOR, ParameterSpec

HEADER = "| parameter | default | description |"
_TABLE = re.compile(rf"^{re.escape(HEADER)}\n(?:\|.*\n)*", re.MULTILINE)


def markdown_table(specs: Mapping[str, ParameterSpec] = DETECTOR) -> str:
    """The table in Markdown; a star marks what can be set only while the node is unconfigured."""
    rows = [
        f"| `{name}`{'' if spec.live else ' *'} | `{_as_yaml(spec.default)}` | {spec.described} |"
        for name, spec in specs.items()
    ]
    return "\n".join([HEADER, "|---|---|---|", *rows, ""])


def table_in(text: str) -> str:
    """The table in a Markdown text; empty if there is none."""
    found = _TABLE.search(text)
    return found[0] if found else ""


def _as_yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    return value if isinstance(value, str) and value else json.dumps(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Replaces the table in the given files."""
    for path in map(Path, sys.argv[1:] if arguments is None else arguments):
        text = path.read_text(encoding="utf-8")
        if not table_in(text):
            print(f"error: '{path}' has no line '{HEADER}'", file=sys.stderr)
            return 1
        new = _TABLE.sub(lambda _: markdown_table(), text, count=1)
        atomic.write(path, new.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
