# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: alternating measurements, tables, and results as JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from tqdm import tqdm

import ssd_ros
from ssd_ros import atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CPUINFO = Path("/proc/cpuinfo")

# Flags of /proc/cpuinfo, and what they are called; the first that a processor has names it.
_EXTENSIONS = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX-512 bf16",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX2 VNNI",
    "avx2": "AVX2",
    "sve2": "SVE2",
    "sve": "SVE",
    "asimddp": "NEON dot product",
    "asimd": "NEON",
}
_PACKAGES = ("torch", "torchvision", "openvino", "numpy")


# --- measuring ------------------------------------------------------------------------------------


def alternate(
    runs: Mapping[str, Callable[[], object]], rounds: int, name: str = ""
) -> dict[str, list[float]]:
    """Seconds of each run in each round.

    The runs alternate, so that what else the machine does falls on all of them alike. One more
    round comes first and does not count: the first time is slow everywhere.
    """
    times: dict[str, list[float]] = {key: [] for key in runs}
    for index in tqdm(range(rounds + 1), desc=name or None, unit="round", disable=None):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            if index:
                times[key].append(time.perf_counter() - start)
    return times


def milliseconds(seconds: Iterable[float]) -> float:
    """The median."""
    return round(1e3 * statistics.median(seconds), 3)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


# --- results --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        title: what was measured.
        text: how, for the reader of the table; may be empty.
        columns: heading of each column by its key.
        rows: values by the keys of the columns. Floats are rounded when they are shown.
    """

    title: str
    text: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def cells(self) -> list[list[str]]:
        """Headings and rows as text; a dash where a row has no value."""
        rows = [[show(row.get(key)) for key in self.columns] for row in self.rows]
        return [list(self.columns.values()), *rows]


def show(value: Any) -> str:
    """A value as text: floats with three digits, but all digits before the point."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def print_table(table: Table) -> None:
    cells = table.cells()
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(table.title)
    for line in cells:
        padded = [cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in
                  enumerate(zip(line, widths, strict=True))]  # fmt: skip
        print("  " + "  ".join(padded).rstrip())


def report(options: argparse.Namespace, tables: Sequence[Table]) -> None:
    """Prints the tables, and writes them where --json or --save says.

    Args:
        options: from a parser with `add_arguments`.
        tables: the results.
    """
    for table in tables:
        print_table(table)
    if options.json is None and options.save is None:
        return
    place = machine(accelerator(options.device))
    benchmark = Path(sys.argv[0]).stem
    path = options.json or options.save / place["slug"] / f"{benchmark}.json"
    content = {
        "benchmark": benchmark,
        "command": command(),
        "date": date.today().isoformat(),
        "machine": place,
        "versions": versions(),
        "tables": [asdict(table) for table in tables],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    atomic.write(path, text.encode())


def add_arguments(parser: argparse.ArgumentParser, device: str | None = None) -> None:
    """The arguments of every benchmark.

    Args:
        device: default of --device; None for a benchmark of the CPU, which has no such option.
    """
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--json", type=Path, help="write the results to this file")
    where.add_argument(
        "--save", type=Path, metavar="DIR", help="write them to a folder of the device in this one"
    )
    add("--quick", action="store_true", help="only try that it works: the figures mean nothing")
    parser.set_defaults(device="cpu")
    if device:
        add("--device", default=device, help="auto, cpu or cuda, default: %(default)s")


def command() -> str:
    """The command that was given, without what only says where the results go."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    arguments = iter(sys.argv[1:])
    for word in arguments:
        if word in ("--json", "--save"):
            next(arguments, None)
        elif not word.startswith(("--json=", "--save=")):
            words.append(word)
    return shlex.join(words)


# --- the machine ----------------------------------------------------------------------------------


def accelerator(device: str) -> str:
    """Name of the GPU that is measured; empty if it is the processor."""
    if device == "cpu":
        return ""
    import torch  # not every benchmark needs it

    from ssd_ros.backends.pytorch import choose_device

    chosen = choose_device(device)
    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else ""


def machine(accelerator: str = "") -> dict[str, Any]:
    """What the figures depend on, besides the versions."""
    processor, extension = processor_name(), vector_extension()
    name = accelerator or f"{processor}, {extension}"
    return {
        "name": name,
        "slug": slug(name),
        "processor": processor,
        "vector extension": extension,
        "cores": cores(),
        "memory (GB)": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of what runs the network."""
    found = {"ssd_ros": ssd_ros.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    import cv2  # may come with ROS, or from one of several distributions

    return found | {"opencv": cv2.__version__}


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """The model, without what every name has."""
    name = _cpuinfo_value(cpuinfo, "model name")
    if not name:  # aarch64 has only numbers there
        done = subprocess.run(["lscpu"], capture_output=True, text=True, check=False)
        found = re.search(r"^Model name:\s*(.+)$", done.stdout, re.MULTILINE)
        name = found[1] if found else platform.machine()
    name = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b|@.*|\d+-Core", " ", name)
    return " ".join(name.split())


def vector_extension(cpuinfo: Path = CPUINFO) -> str:
    """The widest vector extension that matters for networks."""
    flags = (_cpuinfo_value(cpuinfo, "flags") or _cpuinfo_value(cpuinfo, "Features")).split()
    return next((name for flag, name in _EXTENSIONS.items() if flag in flags), "no vectors known")


def _cpuinfo_value(cpuinfo: Path, key: str) -> str:
    try:
        text = cpuinfo.read_text()
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def slug(name: str) -> str:
    """A name as part of a path."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))
