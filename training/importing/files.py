# SPDX-License-Identifier: Apache-2.0
"""The files of a dataset: which image belongs to a name that an annotation gives."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ssd_ros.io import image_files
from training.data import text_files
from training.importing.labels import DatasetImportError

_SUBSET = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:\d{4})?(?:[_-]?(?:images|set|data))?")


class SourceFiles:
    """All files below a folder; hidden ones are left out.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = sorted(_walk(root))
        self.images = [path for path in self.files if path.suffix.lower() in image_files.SUFFIXES]
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            self._by_stem[path.stem].append(path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files whose names end so, in any case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def find_image(self, labels: Path, *names: str) -> Path | None:
        """The image that a name in an annotation means.

        Names are those of other machines: absolute, with backslashes, URLs, with or without suffix.
        Of several images the one with the most equal folders counts, from the end of the name (of
        the annotation's path where the name has none), then from the root of the dataset.

        Args:
            labels: the annotation's file.
            names: the image's names; the first that any image has counts.

        Raises:
            ValueError: several images fit equally well.
        """
        for name in names:
            wanted = PurePosixPath(name.replace("\\", "/"))
            named = [p for p in self._by_stem.get(wanted.stem, ()) if p.name == wanted.name]
            images = named or self._by_stem.get(_without_suffix(wanted.name), [])
            if not images:
                continue
            ranked = sorted(
                ((self._fit(p, labels, wanted.parts[:-1]), p) for p in images), reverse=True
            )
            if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
                raise ValueError(f"'{name}' may be '{ranked[1][1]}' or '{ranked[0][1]}'")
            return ranked[0][1]
        return None

    def _fit(self, image: Path, labels: Path, named: tuple[str, ...]) -> tuple[int, int]:
        folders = image.relative_to(self.root).parts[:-1]
        beside = labels.relative_to(self.root).parts[:-1]
        return _equal(folders[::-1], (named or beside)[::-1]), _equal(folders, beside)

    def subset(self, *paths: Path) -> str | None:
        """The subset that the folders of a path name: train, val, test; None where none does."""
        for path in paths:
            for part in reversed(path.relative_to(self.root).parts[:-1]):
                if found := subset_of(part):
                    return found
        return None


def subset_of(name: str) -> str | None:
    """train, val or test for a folder or list named so (`valid`, `train2017`, `test_images`)."""
    match = _SUBSET.fullmatch(name.lower())
    return match[1] if match else None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        DatasetImportError: it cannot be read.
    """
    try:
        return text_files.read_text(path).splitlines()
    except OSError as error:
        raise DatasetImportError(f"'{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetImportError(f"'{path}' {error}") from None


def _walk(root: Path) -> list[Path]:
    found, visited = [], set[str]()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # links in a circle
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.is_file()]  # a pipe would be waited for
    return found


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in image_files.SUFFIXES else name


def _equal(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
