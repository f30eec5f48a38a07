# SPDX-License-Identifier: Apache-2.0
"""A dataset as one HTML page, to be looked at before training: defects, classes, sizes, images."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from tqdm import tqdm

from ssd_ros.drawing import class_colour
from ssd_ros.io import image_files
from ssd_ros.model.config import PAPER_VOC
from training.data import image_sets, voc, voc_check
from training.data.boxes import clip_and_validate
from training.data.samples import to_sample
from training.evaluation import gallery, plots, templates
from training.trainer import box_scales

MIN_IOU = 0.5  # of a default box with an object, to be matched to it
_SHOWN = 24  # images with and without defects each
_LINES = 500  # defects as text
_SIDE = 320  # pixels of the longer side of an image on the page
_DEFECT, _OTHER = (40, 40, 220), (190, 190, 190)  # BGR


@dataclass(frozen=True)
class _Item:
    """An annotated image that can be read.

    Attributes:
        image: its file.
        annotation: content of its XML file, with boxes of the upright image.
        file: the XML file.
        size: width and height of the upright image.
        defects: of both files.
    """

    image: Path
    annotation: voc.Annotation
    file: Path
    size: tuple[int, int]
    defects: tuple[voc_check.Defect, ...]


def page(root: Path, report: voc_check.Report, exif_view: str = "auto") -> str:
    """The page of a dataset, as HTML that contains all it shows.

    Args:
        root: VOC-format folder, or a development kit.
        report: what `voc_check.check` found in it.
        exif_view: see `training.data.exif_view`.
    """
    classes = sorted(report.objects)
    items = _read_items(root, report.defects, classes, exif_view)
    defective = [item for item in items if item.defects]
    sound = [item for item in items if not item.defects]
    kinds = Counter(defect.kind for defect in report.defects)
    header, rows, diagram = _sizes(items, classes)
    return templates.render(
        "data_page.html",
        name=root.resolve().name,
        images=report.images,
        objects=sum(report.objects.values()),
        defects=len(report.defects),
        kinds=kinds.most_common(),
        defective=_figures(_one_of_each_kind_first(defective)[:_SHOWN], classes),
        more_defective=max(0, len(defective) - _SHOWN),
        lines=[str(defect) for defect in report.defects[:_LINES]],
        more_lines=max(0, len(report.defects) - _LINES),
        header=header,
        rows=rows,
        side=PAPER_VOC.input_size,
        min_iou=MIN_IOU,
        diagram=diagram,
        shown=_figures(_rarest_first(sound, report.objects)[:_SHOWN], classes),
        sound=len(sound),
    )


def _read_items(
    root: Path,
    defects: Iterable[voc_check.Defect],
    classes: Collection[str],
    exif_view: str,
) -> list[_Item]:
    of_file = defaultdict(list)
    for defect in defects:
        of_file[defect.file].append(defect)
    items = []
    for folder in voc_check.find_folders(root):
        images, files = image_sets.find_pairs(folder)
        both = sorted(set(files) & set(images))
        for image_id in tqdm(both, desc="page", unit="file", disable=None, leave=False):
            file, image = files[image_id][0], images[image_id][0]
            try:
                annotation = voc.read_annotation(file).only(classes)
                size, orientation = image_files.read_view(image)
            except ValueError:
                continue  # among the defects
            record = voc.ImageRecord(image_id, image, file)
            index = {name: i for i, name in enumerate(annotation.names)}
            sample = to_sample(record, annotation, index, size, orientation, exif_view)
            upright = replace(annotation, boxes=sample.boxes)
            items.append(_Item(image, upright, file, size, (*of_file[image], *of_file[file])))
    return items


# --- images -------------------------------------------------------------------------------------


def _one_of_each_kind_first(items: Sequence[_Item]) -> list[_Item]:
    """The images with defects, so that the rarest kinds are not behind hundreds of another."""
    seen: Counter[str] = Counter()
    places = []
    for item in items:
        kinds = {defect.kind for defect in item.defects}
        places.append(min(seen[kind] for kind in kinds))
        seen.update(kinds)
    return [items[i] for i in np.argsort(places, kind="stable")]


def _rarest_first(items: Sequence[_Item], objects: Mapping[str, int]) -> list[_Item]:
    """The images, in turn one for each class from the rarest on, then those without objects.

    At random (but always the same): neighbours are often of one scene.
    """
    items = random.Random(0).sample(items, len(items))
    order = sorted(objects, key=lambda name: objects[name])
    queues: dict[str, list[_Item]] = {name: [] for name in order}
    empty: list[_Item] = []
    for item in items:
        names = [name for name in order if name in item.annotation.names]
        (queues[names[0]] if names else empty).append(item)
    turns = [(k, rank) for rank, name in enumerate(order) for k in range(len(queues[name]))]
    return [queues[order[rank]][k] for k, rank in sorted(turns)] + empty


def _figures(items: Iterable[_Item], classes: Sequence[str]) -> list[gallery.Figure]:
    figures = []
    for item in items:
        try:
            image = image_files.read(item.image)
        except ValueError:
            image = np.full((60, _SIDE, 3), 200, np.uint8)  # the caption has the reason
        counts = Counter(item.annotation.names)
        inside = ", ".join(
            f"{name} ×{count}" if count > 1 else name for name, count in sorted(counts.items())
        )
        texts = [f"{item.image.name}: {inside or 'no objects'}"]
        texts += [f"{defect.kind}: {defect.detail}" for defect in item.defects[:4]]
        if len(item.defects) > 4:
            texts.append(f"and {len(item.defects) - 4} more defects")
        pixels = gallery.draw(image, _boxes(item, classes), _SIDE)
        figures.append(gallery.Figure(gallery.data_uri(pixels), "; ".join(texts)))
    return figures


def _boxes(item: _Item, classes: Sequence[str]) -> list[gallery.Drawn]:
    """Boxes with names: in the colour of their class, or in an image with defects red and grey.

    Those with a defect are last, so that they are on top.
    """
    annotation, drawn = item.annotation, []
    defective = {defect.number for defect in item.defects if defect.file == item.file}
    rows = zip(annotation.numbers.tolist(), annotation.names, annotation.boxes, strict=True)
    for number, name, (x1, y1, x2, y2) in rows:
        box = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
        if number in defective:
            drawn.append((1, (box, f"{number} {name}", _DEFECT)))
        else:
            drawn.append(
                (0, (box, name, _OTHER if item.defects else class_colour(classes.index(name))))
            )
    return [box for _, box in sorted(drawn, key=lambda pair: pair[0])]


# --- sizes --------------------------------------------------------------------------------------


def _sizes(
    items: Sequence[_Item], classes: Sequence[str]
) -> tuple[list[str], list[tuple[object, ...]], Markup]:
    """Header and rows of the table of classes, and the diagram of the boxes' shapes."""
    boxes, labels, images = [], [], []
    for number, item in enumerate(items):
        clipped, valid = clip_and_validate(item.annotation.boxes, item.size)
        boxes.append(clipped[valid] / np.array([*item.size, *item.size], np.float32))
        labels.append(np.array([classes.index(n) for n in item.annotation.names], int)[valid])
        images.append(np.full(len(labels[-1]), number))
    label, image = (np.concatenate([*part, np.zeros(0, int)]) for part in (labels, images))
    corners = np.concatenate([*boxes, np.zeros((0, 4), np.float32)])
    shapes = (corners[:, 2:] - corners[:, :2]) * PAPER_VOC.input_size
    side = np.sqrt(shapes.prod(axis=1))
    missed, default_shapes = {}, {}
    for name in box_scales.SCALES:
        config = box_scales.with_scales(PAPER_VOC, name, ())
        overlaps = np.concatenate([*box_scales.best_overlaps(config, boxes), np.zeros(0)])
        missed[name] = overlaps < MIN_IOU
        sizes = np.array([size for m in config.feature_maps for size in m.box_sizes])
        default_shapes[f"--boxes {name}"] = sizes * config.input_size
    rows = []
    for k, name in enumerate(classes):
        of_class = label == k
        spread = np.percentile(side[of_class], (0, 50, 100)) if of_class.any() else ()
        rows.append(
            (
                name,
                int(of_class.sum()),
                len(np.unique(image[of_class])),
                " / ".join(f"{value:.0f}" for value in spread) or "–",
                *(_share(part[of_class]) for part in missed.values()),
            )
        )
    header = ["class", "objects with an area", "images", "smallest / median / largest, pixels"]
    header += [f"no default box fits, --boxes {name}" for name in missed]
    of_classes = [shapes[label == k] for k in range(len(classes))]
    diagram = plots.box_shapes(of_classes, classes, default_shapes, PAPER_VOC.input_size)
    return header, rows, Markup(diagram)


def _share(flags: np.ndarray) -> str:
    return f"{int(flags.sum())} ({flags.mean():.0%})" if len(flags) else "–"
