# SPDX-License-Identifier: Apache-2.0
"""Functions, classes and modules stay small enough to be read as a whole."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("ssd_ros", "training", "demo", "benchmarks", "pip_ros")
MOST_LINES = {"function": 60, "class": 200, "module": 300}

# What may be longer, and why. An entry that is no longer needed fails the test.
LONGER: dict[str, str] = {
    "benchmarks/promises.py": "one function for each promise, all run by one command",
}


def too_long(path: Path, root: Path) -> dict[str, str]:
    """Name -> kind and number of lines of everything in a file that is over its limit."""
    text, where = path.read_text(), str(path.relative_to(root))
    lengths = [(where, "module", len(text.splitlines()))]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            assert node.end_lineno is not None
            lengths.append((f"{where}:{node.name}", kind, node.end_lineno - node.lineno + 1))
    return {
        name: f"{kind} of {lines} lines, at most {MOST_LINES[kind]}"
        for name, kind, lines in lengths
        if lines > MOST_LINES[kind]
    }


def all_too_long() -> dict[str, str]:
    files = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {name: text for path in files for name, text in too_long(path, ROOT).items()}


def test_nothing_is_too_long_without_a_reason():
    found = {name: text for name, text in all_too_long().items() if name not in LONGER}
    assert not found, "\n".join(f"{name}: {text}" for name, text in found.items())


def test_no_reason_outlives_what_it_is_for():
    assert set(LONGER) <= set(all_too_long()), "no longer needed, remove from LONGER"


def test_the_limits_are_exact(tmp_path):
    body = "\n".join(["    x = 1"] * 59)
    assert too_long(write(tmp_path, f"def fits():\n{body}"), tmp_path) == {}
    (found,) = too_long(write(tmp_path, f"def big():\n{body}\n    y = 1"), tmp_path).items()
    assert found == ("a.py:big", "function of 61 lines, at most 60")
    body = "\n".join(["    x = 1"] * 200)
    (found,) = too_long(write(tmp_path, f"class Big:\n{body}"), tmp_path).items()
    assert found == ("a.py:Big", "class of 201 lines, at most 200")
    (found,) = too_long(write(tmp_path, "x = 1\n" * 301), tmp_path).items()
    assert found == ("a.py", "module of 301 lines, at most 300")
    assert too_long(write(tmp_path, "x = 1\n" * 300), tmp_path) == {}


def write(folder: Path, text: str) -> Path:
    path = folder / "a.py"
    path.write_text(text)
    return path
