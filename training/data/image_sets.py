# SPDX-License-Identifier: Apache-2.0
"""Image sets, and the files of the images that they name.

The id of an image is its path in JPEGImages without the suffix: `a`, or `task_3/a` where a tool
writes subfolders. Its annotation has the same path in Annotations.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from ssd_ros.image import printable
from ssd_ros.io import image_files
from training.data import text_files
from training.data.voc_error import VOCError

_FLAGS = ("-1", "0", "1")  # after the name, in VOC's image sets of one class


def find_files(folder: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """The files with these suffixes in a folder and its subfolders, by their ids, in order.

    Accents in ids are composed, so that an image and its annotation have the same id also where one
    of the names was written by macOS; the files that it writes beside others are left out.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and not path.name.startswith("._"):
            image_id = path.relative_to(folder).with_suffix("").as_posix()
            found.setdefault(composed(image_id), []).append(path)
    return found


def find_pairs(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The images and the annotations of a VOC-format folder, see `find_files`."""
    return (
        find_files(folder / "JPEGImages", image_files.SUFFIXES),
        find_files(folder / "Annotations", (".xml",)),
    )


def composed(name: str) -> str:
    """A name with each accented letter as one character; macOS writes two."""
    return unicodedata.normalize("NFC", name)


def read(path: Path, ids: Collection[str]) -> list[tuple[str, str | None]]:
    """What an `ImageSets/Main` file names: one image on each line.

    Lines may have blanks in the name, a suffix, the folder JPEGImages before it, backslashes, or
    the flag of VOC's sets of one class after it.

    Args:
        ids: of the existing images.

    Returns:
        For each line its text, printable, and the id; None where there is no such image.

    Raises:
        VOCError: the file is missing, or no text; the message lists the available sets.
    """
    try:
        lines = text_files.read_text(path).splitlines()
    except ValueError as error:
        raise VOCError(f"image set '{path}' {error}") from None
    except OSError:
        available = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise VOCError(
            f"image set '{path}' not found; available: {available}; "
            "--sets and --val-sets choose others"
        ) from None
    return [
        (printable(text), next((name for name in _candidates(text) if name in ids), None))
        for text in map(str.strip, lines)
        if text
    ]


def entries(line: str) -> list[str]:
    """What a line may name, the likeliest first: with a flag of VOC's sets at its end, or not."""
    text = line.strip()
    name, _, flag = text.rpartition(" ")
    return [part for part in (text, name.rstrip() if flag in _FLAGS else "") if part]


def _candidates(text: str) -> Iterator[str]:
    """Ids that a line may mean, the likeliest first."""
    for entry in map(composed, entries(text)):
        slashes = entry.replace("\\", "/")
        for path in (entry, slashes, slashes.rpartition("JPEGImages/")[2].removeprefix("./")):
            yield path
            stem, dot, suffix = path.rpartition(".")
            if dot and f".{suffix.lower()}" in (*image_files.SUFFIXES, ".xml"):
                yield stem
