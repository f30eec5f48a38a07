# SPDX-License-Identifier: Apache-2.0
"""Runs every benchmark on this machine and renders docs/benchmarks.md: `make bench`.

    python benchmarks/run_all.py [--only inference node] [--quick]

Takes about a quarter of an hour on two cores and wants a machine without other work. Results go to
benchmarks/results/PROCESSOR/. With --quick it only tries that everything works, in two or three
minutes, and writes to a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import render
from measuring import RESULTS, ROOT, machine

SCRIPTS = (
    *("inference", "network", "postprocess", "node", "one_core", "footprint", "install_size"),
    *("training_speed", "web_page"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, help="these benchmarks alone")
    add("--quick", action="store_true", help="only try that it works: the figures mean nothing")
    add("--results", type=Path, help="default: benchmarks/results")
    add("--page", type=Path, help="default: docs/benchmarks.md")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="benchmarks-")) if options.quick else None
    results = options.results or (scratch / "results" if scratch else RESULTS)
    page = options.page or (scratch / "benchmarks.md" if scratch else render.PAGE)

    load = os.getloadavg()[0]
    if load > 0.5 and not options.quick:
        print(f"warning: other processes are running (load {load:.1f}): times will be too long")
    began = time.monotonic()
    folder = results / machine()["slug"]
    failed = [name for name in options.only if not run(name, folder, options)]
    written = render.render(results, page)
    minutes = (time.monotonic() - began) / 60
    if failed:
        print(f"failed: {', '.join(failed)}; wrote {page} without new results of these")
        return 1
    print(f"wrote {page}: {written}, {len(options.only)} benchmarks in {minutes:.1f} min")
    return 0


def run(name: str, folder: Path, options: argparse.Namespace) -> bool:
    """One benchmark in its own process; whether it succeeded."""
    place = f"{options.only.index(name) + 1}/{len(options.only)}"
    print(f"\n[{place}] python benchmarks/{name}.py", flush=True)
    command = [sys.executable, f"benchmarks/{name}.py", "--json", str(folder / f"{name}.json")]
    environment = {**os.environ, "PYTHONPATH": _python_path()}
    arguments = ["--quick"] if options.quick else []
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=False)
    return done.returncode == 0


def _python_path() -> str:
    """This clone first, whatever is installed."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print(
            "\ninterrupted: results of finished benchmarks are kept; "
            "show them with: python benchmarks/render.py"
        )
        sys.exit(130)
