# SPDX-License-Identifier: Apache-2.0
"""Imports, divides, checks and downloads PASCAL VOC datasets.

python -m training.voc import SRC DIR   make a VOC-format folder of what a labelling tool exported
python -m training.voc split DIR        divide its images into image sets
python -m training.voc check DIR        report every defect by file and object
python -m training.voc download DIR     fetch PASCAL VOC 2007 or 2012
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssd_ros import atomic
from ssd_ros.command_line import ClassNames, plural
from training.data import exif_view, voc_check
from training.importing import commands as importing


def download(root: Path, year: str) -> None:
    """Fetches PASCAL VOC through torchvision into root/VOCdevkit; complete archives are kept."""
    from torchvision.datasets import VOCDetection

    for image_set in ("trainval", "test") if year == "2007" else ("trainval",):
        VOCDetection(str(root), year=year, image_set=image_set, download=True)


def import_and_check(given: argparse.Namespace) -> int:
    """Imports a dataset and checks the result. Returns the exit status."""
    complete = importing.run_import(given)
    report = voc_check.check(given.target, exif_view=given.exif_view, decode=False)  # just done
    print(f"\ncheck of {given.target}:")
    print_report(report)
    print(f"\ntrain: {importing.training_command(given.target, given.exif_view)}")
    return 0 if complete and not report.defects else 1


def write_page(root: Path, report: voc_check.Report, view: str, out: Path) -> None:
    """Writes the page of a dataset."""
    from training.evaluation import data_page  # matplotlib takes a second

    text = data_page.page(root, report, view)
    atomic.write(out, text.encode("utf-8", "replace"))
    print(f"{out}: {len(text) / 2**20:.1f} MB, opens in any browser")


def print_report(report: voc_check.Report) -> None:
    """Prints the defects and counts of a dataset."""
    for defect in report.defects:
        print(defect)
    print(f"{plural(report.images, 'image')}; objects: {_counts(report.objects)}")
    if report.ignored:
        print(f"objects of other classes, ignored: {_counts(report.ignored)}")
    if report.lost:
        print(f"of these not in the loss of a training: {_counts(report.lost)}")
    if report.unlisted:
        print(f"of these in no image set: {_counts(report.unlisted)}")
    kinds = Counter(defect.kind for defect in report.defects)
    print(
        f"{plural(len(report.defects), 'defect')}: "
        + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        if kinds
        else "no defects"
    )


def _counts(objects: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(objects.items())) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.voc",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="report every defect by file and object")
    check.add_argument("root", type=Path, help="VOC-format folder, or VOCdevkit")
    check.add_argument(
        "--classes",
        action=ClassNames,
        help="check only these classes; objects of others are ignored, as in a training",
    )
    check.add_argument(
        "--exif-view", choices=exif_view.CHOICES, default="auto", help=exif_view.HELP
    )
    check.add_argument("--html", type=Path, metavar="FILE", help="also write a page to look at")
    importing.add_import(commands)
    importing.add_split(commands)
    fetch = commands.add_parser("download", help="fetch PASCAL VOC")
    fetch.add_argument("root", type=Path, help="folder for VOCdevkit/")
    fetch.add_argument("--year", default="2007", choices=("2007", "2012"))
    options = parser.parse_args(arguments)
    try:
        if options.command == "download":
            download(options.root, options.year)
            return 0
        if options.command == "import":
            return import_and_check(options)
        if options.command == "split":
            importing.run_split(options)
            return 0
        report = voc_check.check(options.root, options.classes, options.exif_view)
        if options.html:
            write_page(options.root, report, options.exif_view, options.html)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_report(report)
    return 1 if report.defects else 0


if __name__ == "__main__":
    sys.exit(main())
