# SPDX-License-Identifier: Apache-2.0
"""`voc import` and `voc split`: their arguments, and what they print."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from pathlib import Path

from ssd_ros.command_line import plural
from training.data import exif_view, split
from training.importing import convert, sets
from training.importing.labels import Labels

_SHOWN = 20  # reasons printed of each kind


def add_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the arguments of `import`."""
    parser = commands.add_parser(
        "import",
        help="make a VOC-format folder of VOC XML in any layout, COCO JSON or YOLO text files",
        description="Makes a VOC-format folder of a labelling tool's export: VOC XML in any layout "
        "(labelImg, VoTT, CVAT, Roboflow, Label Studio), COCO JSON, YOLO text files. Polygons and "
        "rotated boxes become their enclosing boxes. The source is not changed.",
    )
    parser.add_argument("source", type=Path, help="folder, COCO JSON or YOLO YAML file")
    parser.add_argument("target", type=Path, help="new folder")
    parser.add_argument("--format", choices=convert.FORMATS, help="default: recognised")
    parser.add_argument("--link", action="store_true", help="symbolic links instead of copies")
    parser.add_argument(
        "--exif-view", choices=exif_view.CHOICES, default="auto", help=exif_view.HELP
    )
    _add_split(
        parser,
        "(default: the sets of the source, by its lists or folders; if it has none, "
        f"{','.join(map(str, sets.FRACTIONS))})",
    )


def add_split(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the arguments of `split`."""
    parser = commands.add_parser(
        "split",
        help="divide the images of a VOC-format folder into image sets",
        description="Writes ImageSets/Main/ of a VOC-format folder. Images of one recording, by "
        "their folder or by the name before the number of the frame, are in the same set.",
    )
    parser.add_argument("root", type=Path, help="VOC-format folder")
    _add_split(parser, f"(default: {','.join(map(str, sets.FRACTIONS))})")
    parser.add_argument("--force", action="store_true", help="replace sets that exist")


def _add_split(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--split", metavar="F,F[,F]", help=f"fractions of train,test or train,val,test {default}"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the division")


def run_import(given: argparse.Namespace) -> bool:
    """Imports and prints what was found. Returns whether everything was imported.

    Raises:
        ValueError, OSError: see `convert.convert`.
    """
    fractions = split.parse_fractions(given.split) if given.split else None
    options = convert.Options(given.format, fractions, given.seed, given.link, given.exif_view)
    result = convert.convert(given.source, given.target, options)
    labels = result.labels
    objects = [item.name for image in labels.images for item in image.objects]
    print(f"{result.format}: {len(objects)} objects in {plural(len(labels.images), 'image')}")
    print("classes: " + ", ".join(f"{k} {n}" for k, n in sorted(Counter(objects).items())))
    for text, count in [*labels.converted.items(), *labels.notes.items()]:
        if count:
            print(f"{count} {text}")
    _print_dropped(labels)
    _print_sets(result.sets, result.division)
    return not labels.dropped_objects and not labels.dropped_files


def _print_dropped(labels: Labels) -> None:
    for title, reasons in (
        ("object", labels.dropped_objects),
        ("annotated image", labels.dropped_files),
        ("image", [f"'{image}' has no annotation" for image in labels.unlabelled]),
    ):
        if reasons:
            print(f"{plural(len(reasons), title)} not imported:")
        for reason in reasons[:_SHOWN]:
            print(f"  {reason}")
        if len(reasons) > _SHOWN:
            print(f"  … and {len(reasons) - _SHOWN} more")


def _print_sets(sizes: dict[str, int], division: str) -> None:
    print(f"image sets {division}: " + ", ".join(f"{name} {n}" for name, n in sizes.items()))


def run_split(given: argparse.Namespace) -> None:
    """Writes image sets and prints their sizes.

    Raises:
        ValueError, OSError: the folder is not usable, or has image sets and `--force` is not given.
    """
    main = given.root / "ImageSets" / "Main"
    existing = sorted(path.stem for path in main.glob("*.txt"))
    if existing and not given.force:
        raise ValueError(f"'{main}' has image sets ({', '.join(existing)}); --force replaces them")
    fractions = split.parse_fractions(given.split) if given.split else sets.FRACTIONS
    parts, division = sets.split_folder(given.root, fractions, given.seed)
    for name in existing:  # an old one could share images with a new one
        (main / f"{name}.txt").unlink()
    sets.write(given.root, parts)
    _print_sets({name: len(ids) for name, ids in parts.items()}, division)


def training_command(root: Path, view: str = "auto") -> str:
    """The command that trains on a folder by its image sets.

    Args:
        view: `--exif-view` of the import.
    """
    names = {path.stem for path in (root / "ImageSets" / "Main").glob("*.txt")}
    chosen = "--sets train --val-sets val " if "val" in names else ""
    if not {"val", "test"} & names:
        chosen = "--val-sets none "
    if view != "auto":
        chosen += f"--exif-view {view} "
    path = shlex.quote(str(root))
    return f"python -m training.train --data {path} {chosen}--out RUN --preset narrow"
