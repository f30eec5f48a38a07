# SPDX-License-Identifier: Apache-2.0
"""Size of what is installed for the node, beside that of PyTorch.

    python benchmarks/install_size.py [--json OUT]

Counts the files of the distributions in requirements.txt, and of those that they need, as they
are in the present environment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from measuring import ROOT, Table, add_arguments, report
from packaging.requirements import Requirement

COLUMNS = {"name": "installed", "count": "distributions", "mb": "size (MB)"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args()
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
    node, missing = with_dependencies(names)
    torch, _ = with_dependencies(["torch", "torchvision"])
    more = {name: found for name, found in torch.items() if name not in node}
    rows = [row("requirements.txt with dependencies", node)]
    for name in sorted(node, key=lambda name: -size(node[name]))[:3]:
        rows.append(row(f"of these {name} {node[name].version}", {name: node[name]}))
    rows.append(row("PyTorch and torchvision, in addition", more))
    text = "Files of the distributions as pip installed them; 1 MB is 10⁶ bytes."
    if missing:
        text += f" Not from pip here, and not counted: {', '.join(missing)}."
    report(options, [Table("Size of the installation", text, COLUMNS, rows)])
    return 0


def with_dependencies(names: Iterable[str]) -> tuple[dict[str, Distribution], list[str]]:
    """Installed distributions by name, and the names of those that are not installed."""
    found: dict[str, Distribution] = {}
    missing = []
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or name in missing:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        for text in found[name].requires or ():
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    return found, sorted(missing)


def size(installed: Distribution) -> int:
    """Bytes of its files; 0 if the installer did not list them."""
    paths = {Path(str(file.locate())) for file in installed.files or ()}
    return sum(path.stat().st_size for path in paths if path.is_file())


def row(name: str, installed: Mapping[str, Distribution]) -> dict[str, object]:
    total = sum(map(size, installed.values())) / 1e6
    return {"name": name, "count": len(installed), "mb": round(total)}


if __name__ == "__main__":
    sys.exit(main())
