# SPDX-License-Identifier: Apache-2.0
"""Composes a VOC-format dataset of cut-outs on backgrounds: python -m training.compose --help."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ssd_ros import atomic, png
from ssd_ros.image import ImageError
from ssd_ros.io import image_files
from training.composition.compose import CutOut, Placed, compose
from training.data import voc_xml

SETS = ("trainval", "test")
DIFFICULT_BELOW = 0.3  # visible share of an object


def read_cutouts(folder: Path) -> list[CutOut]:
    """Objects from PNG files with alpha.

    The class is the name of the file without a number at its end (`cup.png`, `cup_2.png`), or of
    the subfolder where there are any.

    Raises:
        ValueError: there is no such file, or one without transparent pixels.
    """
    files = sorted(folder.glob("*/*.png")) or sorted(folder.glob("*.png"))
    if not files:
        raise ValueError(f"folder '{folder}' contains no PNG files, nor do its subfolders")
    return [CutOut(_class_of(file, folder), _read_with_alpha(file)) for file in files]


def _class_of(file: Path, folder: Path) -> str:
    if file.parent != folder:
        return file.parent.name
    return re.sub(r"[\s_-]*\d*$", "", file.stem) or file.stem


def _read_with_alpha(file: Path) -> np.ndarray:
    try:
        data = png.without_extras(np.frombuffer(file.read_bytes(), np.uint8))
    except ImageError as error:
        raise ValueError(f"cut-out '{file}': {error}") from None
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise ValueError(f"cut-out '{file}' must be an 8-bit PNG with an alpha channel")
    alpha = pixels[..., 3]
    if not (alpha > 127).any() or (alpha > 127).all():
        raise ValueError(f"cut-out '{file}' must be part opaque (the object), part transparent")
    x, y, w, h = cv2.boundingRect((alpha > 127).astype(np.uint8))
    return pixels[y : y + h, x : x + w]


def write_set(
    out: Path,
    name: str,
    count: int,
    seed: int,
    cutouts: Sequence[CutOut],
    backgrounds: Sequence[np.ndarray],
    size: tuple[int, int],
    workers: int = 0,
) -> None:
    """Composes one image set. An image depends only on the seed, the set's name and its number."""
    make = partial(
        _write_image,
        out=out,
        name=name,
        seed=seed,
        cutouts=cutouts,
        backgrounds=backgrounds,
        size=size,
    )
    for folder in ("Annotations", "JPEGImages"):
        atomic.make_folder(out / folder)
    progress = partial(tqdm, total=count, desc=name, unit="image", disable=None)
    if workers > 1:
        # Spawned: a fork inherits OpenCV's locks, but not the threads that hold them.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) as pool:
            ids = list(progress(pool.map(make, range(count), chunksize=16)))
    else:
        ids = list(progress(map(make, range(count))))
    # Last, so that an interrupted set is not mistaken for a complete one.
    text = "".join(f"{image_id}\n" for image_id in ids)
    atomic.write(out / "ImageSets" / "Main" / f"{name}.txt", text.encode())


def _write_image(
    number: int,
    out: Path,
    name: str,
    seed: int,
    cutouts: Sequence[CutOut],
    backgrounds: Sequence[np.ndarray],
    size: tuple[int, int],
) -> str:
    rng = np.random.default_rng([seed, *name.encode(), number])
    image, objects = compose(rng, cutouts, backgrounds, size)
    image_id = f"{name}_{number:05d}"
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])
    (out / "JPEGImages" / f"{image_id}.jpg").write_bytes(data.tobytes())
    (out / "Annotations" / f"{image_id}.xml").write_bytes(annotation(image_id, size, objects))
    return image_id


def annotation(image_id: str, size: tuple[int, int], objects: Sequence[Placed]) -> bytes:
    """The VOC XML file of a composed image; objects without an area are dropped."""
    visible = [
        voc_xml.VOCObject(item.name, item.box, item.seen < DIFFICULT_BELOW, item.seen < 0.95)
        for item in objects
        if item.box[0] < item.box[2] and item.box[1] < item.box[3]
    ]
    return voc_xml.annotation(f"{image_id}.jpg", size, visible)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or min(map(int, match.groups())) < 32:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT of at least 32, got '{text}'")
    return int(match[1]), int(match[2])


def argument_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The options of every command that composes a dataset."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add = parser.add_argument
    add("out", type=Path, help="output folder of the dataset")
    add("--images", type=int, default=4000, help="training images (trainval); default: %(default)s")
    add("--held-out", type=int, default=500, help="test images; default: %(default)s")
    add(
        "--size",
        type=_size,
        default=(400, 300),
        metavar="WxH",
        help="image size in pixels; default: 400x300",
    )
    add("--seed", type=int, default=0, help="random seed; default: %(default)s")
    add("--workers", type=int, default=2, help="number of processes; default: %(default)s")
    return parser


def write_dataset(
    options: argparse.Namespace, cutouts: Sequence[CutOut], backgrounds: Sequence[np.ndarray]
) -> None:
    """Composes both image sets by the options of `argument_parser`, and prints a summary."""
    for name, count in zip(SETS, (options.images, options.held_out), strict=True):
        write_set(
            options.out,
            name,
            count,
            options.seed,
            cutouts,
            backgrounds,
            options.size,
            options.workers,
        )
    classes = ", ".join(sorted({cutout.name for cutout in cutouts}))
    print(f"wrote {options.out}: {options.images} + {options.held_out} images of {classes}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser(
        "python -m training.compose",
        "Composes a VOC-format dataset: your objects, cut out, on your backgrounds.",
    )
    parser.add_argument(
        "--cutouts",
        type=Path,
        required=True,
        metavar="DIR",
        help="your objects: PNG with alpha, named after the class (cup.png, cup_2.png) or in a "
        "subfolder of its name",
    )
    parser.add_argument(
        "--backgrounds",
        type=Path,
        required=True,
        metavar="DIR",
        help="images without these objects",
    )
    options = parser.parse_args(arguments)
    try:
        cutouts = read_cutouts(options.cutouts)
        backgrounds = [image_files.read(file) for file in image_files.find([options.backgrounds])]
        write_dataset(options, cutouts, backgrounds)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
