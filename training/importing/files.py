# SPDX-License-Identifier: Apache-2.0
"""The files of a dataset: which image belongs to a name that an annotation gives."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import yaml

from ssd_ros.io import image_files
from training.data import text_files
from training.data.image_sets import composed
from training.importing.labels import DatasetImportError

_SUBSET = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:\d{4})?(?:[_-]?(?:images|set|data))?")


class Match(NamedTuple):
    """The image that an annotation is for.

    Attributes:
        image: its file.
        fit: the larger, the better do names and folders agree.
    """

    image: Path
    fit: tuple[int, ...]


class AmbiguousImageError(ValueError):
    """A name fits several images equally well.

    Attributes:
        images: these images.
    """

    def __init__(self, name: str, images: list[Path]) -> None:
        choices = " or ".join(f"'{image}'" for image in images)
        super().__init__(f"names '{name}', which may be {choices}")
        self.images = images


class SourceFiles:
    """All files below a folder; hidden ones are left out.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = sorted(_walk(root))
        self.images = [path for path in self.files if path.suffix.lower() in image_files.SUFFIXES]
        self._index: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for path in self.images:
            for kind, text in (("name", path.name), ("stem", path.stem)):
                text = composed(text)
                self._index[kind, text].append(path)
                self._index[f"{kind} in any case", text.casefold()].append(path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files whose names end so, in any case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def find_image(self, labels: Path, *names: str) -> Match | None:
        """The image that a name in an annotation means.

        Names are those of other machines: absolute, with backslashes, URLs, with or without suffix,
        with other capitals or accents of another form.
        Of several images the one with the most equal folders counts, from the end of the name (of
        the annotation's path where the name has none), then from the root of the dataset.

        Args:
            labels: the annotation's file.
            names: the image's names; the first that any image has counts.

        Raises:
            AmbiguousImageError: several images fit equally well.
        """
        for rank, name in enumerate(names):
            for text in dict.fromkeys((name, unquote(name))):
                wanted = PurePosixPath(text.replace("\\", "/"))
                images = self._named(composed(wanted.name))
                if not images:
                    continue
                fits = {path: self._fit(path, labels, wanted.parts[:-1]) for path in images}
                best = [path for path in images if fits[path] == max(fits.values())]
                if len(best) > 1:
                    raise AmbiguousImageError(name, best)
                return Match(best[0], (-rank, *fits[best[0]]))
        return None

    def _named(self, name: str) -> list[Path]:
        stem = _without_suffix(name)
        for kind, text in (("name", name), ("stem", name), ("stem", stem)):
            folded = f"{kind} in any case", text.casefold()
            if found := self._index.get((kind, text)) or self._index.get(folded):
                return found
        return []

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


def choose(matches: Mapping[Path, Match]) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Which annotation counts for each image: of several the one that fits it best.

    Args:
        matches: the image of each annotation file.

    Returns:
        For each image its annotation, and the reason for each annotation that does not count.
    """
    best: dict[Path, Path] = {}
    for path, (image, fit) in matches.items():
        if image not in best or fit > matches[best[image]].fit:
            best[image] = path
    return best, {
        path: f"is for '{image}', as '{best[image]}' is"
        for path, (image, _) in matches.items()
        if best[image] != path
    }


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


def read_yaml(path: Path) -> Any:
    """The content of a YAML file with all scalars as text, `no` for example; None if it is none."""
    try:
        return yaml.load(text_files.read_text(path), yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None


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
