# SPDX-License-Identifier: Apache-2.0
"""Image sets of an imported dataset, or of a VOC-format folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data import image_sets, split
from training.importing import subsets
from training.importing.files import SourceFiles
from training.importing.labels import DatasetImportError, LabelledImage

FRACTIONS = (0.8, 0.1, 0.1)  # of train, val, test where the dataset itself has no sets


def write(folder: Path, sets: dict[str, list[str]]) -> None:
    """Writes image sets. Without `val`, `train` is `trainval` as well, the default of commands.

    With `val`, there is no `trainval`: trained on by default, it would contain the validation.
    """
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True, exist_ok=True)
    for name, ids in {**sets, **({} if "val" in sets else {"trainval": sets["train"]})}.items():
        (main / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")


def divide(
    source: SourceFiles,
    images: Sequence[LabelledImage],
    ids: Sequence[str],
    fractions: Sequence[float] | None,
    seed: int,
) -> tuple[dict[str, list[str]], str]:
    if fractions is None:
        stated = subsets.stated(source, list(images))
        titles = [stated.get(image.image, "train") for image in images]
        if "train" in titles and len({*titles}) > 1:
            parts = {
                title: [i for i, of_image in zip(ids, titles, strict=True) if of_image == title]
                for title in split.NAMES[3]
                if title in titles
            }
            rest = len(images) - len(stated)
            return parts, "as in the source" + (f", {rest} in no set are in train" if rest else "")
    names = {
        image.image.relative_to(source.root).as_posix(): image_id
        for image, image_id in zip(images, ids, strict=True)
    }
    return _split(names, fractions or FRACTIONS, seed)


def split_folder(
    root: Path, fractions: Sequence[float], seed: int
) -> tuple[dict[str, list[str]], str]:
    """Divides the annotated images of a VOC-format folder.

    Returns:
        The ids of each set, and how they were divided.

    Raises:
        DatasetImportError: there is no annotated image.
        ValueError: there are too few.
    """
    images, annotations = image_sets.find_pairs(root)
    names = {
        images[image_id][0].relative_to(root).as_posix(): image_id
        for image_id in images
        if image_id in annotations
    }
    if not names:
        raise DatasetImportError(f"'{root}' has no image in JPEGImages/ with an annotation")
    return _split(names, fractions, seed)


def _split(
    names: Mapping[str, str], fractions: Sequence[float], seed: int
) -> tuple[dict[str, list[str]], str]:
    """Divides ids by the paths of their images."""
    parts, groups = split.split(list(names), fractions, seed)
    return {k: [names[n] for n in part] for k, part in parts.items()}, f"{groups}, seed {seed}"
