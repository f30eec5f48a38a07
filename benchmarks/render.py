# SPDX-License-Identifier: Apache-2.0
"""Renders docs/benchmarks.md, and its plots, from the results of every processor.

    python benchmarks/render.py [--results benchmarks/results] [--page docs/benchmarks.md]

The same results give the same files.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from measuring import RESULTS, ROOT, Table

from ssd_ros import atomic

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTTED = "inference"
# Of the benchmarks on the page; others follow by name.
ORDER = (
    *(PLOTTED, "network", "postprocess", "node", "one_core", "footprint", "install_size"),
    "training_speed",
)
INTRODUCTION = """\
# Benchmarks

<!-- Written by benchmarks/render.py from benchmarks/results/. Changes here are overwritten. -->

`make bench` runs all of them on your machine, in about a quarter of an hour, and adds a section to
this page. It needs an otherwise idle machine. Below each heading is the command that measures only
its tables.
"""

Result = dict[str, Any]  # content of a results file, see `measuring.report`


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--results", type=Path, default=RESULTS, help="default: benchmarks/results")
    add("--page", type=Path, default=PAGE, help="default: docs/benchmarks.md")
    options = parser.parse_args()
    try:
        written = render(options.results, options.page)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.page}: {written}")
    return 0


def render(results: Path, page: Path) -> str:
    """Writes the page and the plots beside it; returns how much that is, in words.

    Raises:
        ValueError: a file in the folder is not a benchmark's.
    """
    machines = read(results)
    parts = [INTRODUCTION]
    for slug, found in machines.items():
        parts.append(_heading(found))
        plotted = next((result for result in found if result["benchmark"] == PLOTTED), None)
        if plotted is not None:
            picture = page.with_name(f"{page.stem}-{slug}.svg")
            atomic.write(picture, plot(plotted))
            parts.append(f"![Time of an image by the width of the network]({picture.name})\n")
        common = _common_versions(found)
        parts += [_section(result, common) for result in found]
    atomic.write(page, "\n".join(parts).encode())
    tables = sum(len(result["tables"]) for found in machines.values() for result in found)
    return f"{tables} tables of {len(machines)} machine{'s' if len(machines) != 1 else ''}"


def read(folder: Path) -> dict[str, list[Result]]:
    """The results of each machine by its slug, in the order of the page.

    Raises:
        ValueError: a file is not a benchmark's.
    """
    machines: dict[str, list[Result]] = {}
    for path in sorted(folder.glob("*/*.json")):
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not {"benchmark", "machine", "tables"} <= set(content):
            raise ValueError(f"'{path}' is not the result of a benchmark: expected its tables")
        machines.setdefault(path.parent.name, []).append(content)
    for found in machines.values():
        found.sort(key=lambda result: (_place(result["benchmark"]), result["benchmark"]))
    return machines


def _place(benchmark: str) -> int:
    return ORDER.index(benchmark) if benchmark in ORDER else len(ORDER)


# --- text -----------------------------------------------------------------------------------------


def _heading(found: Sequence[Result]) -> str:
    machine = found[0]["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in _common_versions(found).items())
    return (
        f"## {machine['name']}\n\n{machine['processor']} with {machine['vector extension']}, "
        f"{machine['cores']} cores, {machine['memory (GB)']} GB of memory, {machine['system']}; "
        f"{versions}.\n"
    )


def _common_versions(found: Sequence[Result]) -> dict[str, str]:
    """What is the same in all results."""
    sets = [set(result["versions"].items()) for result in found]
    common = set.intersection(*sets)
    return {name: v for name, v in found[0]["versions"].items() if (name, v) in common}


def _section(result: Result, common: Mapping[str, str]) -> str:
    others = [f"{n} {v}" for n, v in result["versions"].items() if n not in common]
    parts = []
    for values in result["tables"]:
        table = Table(**values)
        parts.append(f"### {table.title}\n")
        remarks = "; ".join([f"`{result['command']}`", result["date"], *others])
        parts.append(f"{remarks}. {table.text}\n")
        parts.append(markdown(table))
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """The table; columns of numbers are aligned to the right."""
    head, *rows = table.cells()
    right = [
        all(isinstance(row.get(key), int | float | None) for row in table.rows)
        for key in table.columns
    ]
    lines = [head, ["--:" if number else "---" for number in right], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


# --- plot -----------------------------------------------------------------------------------------


def plot(result: Result) -> bytes:
    """Time against width for each engine and precision of the first table, as SVG."""
    rows = result["tables"][0]["rows"]
    # Without date and random names, so that the same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "ssd_ros", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["network"] == "ssd_ros":
                name = f"ssd_ros, {row['engine']} {row['precision']}"
                lines.setdefault(name, []).append((float(row["width"]), row["ms"]))
            else:
                axes.axhline(row["ms"], color="black", linestyle="--", label=row["network"])
        for name, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="width of the network", ylabel="ms per image")
        axes.set_xticks(sorted({x for points in lines.values() for x, _ in points}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.set_yticks([y for y in (10, 20, 50, 100, 200, 500, 1000) if _within(y, axes)])
        axes.set_title(f"{result['tables'][0]['title']}, {result['machine']['name']}")
        axes.grid(alpha=0.3)
        axes.legend()
        file = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    return file.getvalue()


def _within(y: float, axes: Any) -> bool:
    low, high = axes.get_ylim()
    return bool(low <= y <= high)


if __name__ == "__main__":
    sys.exit(main())
