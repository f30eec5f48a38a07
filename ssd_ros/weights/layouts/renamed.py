# SPDX-License-Identifier: Apache-2.0
"""Families whose network is SSD300 with VGG16 as here, under other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import Shape, tensor_shapes
from ssd_ros.weights.containers import Arrays, Header
from ssd_ros.weights.layout import Mismatch, UnnamedClassesError, check_count, compare
from ssd_ros.weights.weights import Weights, check_class_names

# Places in the list that VGG16 is in most implementations, which counts ReLU and pooling, too.
# conv6 and conv7 are its first two fully connected layers, fc6 and fc7.
VGG16_PLACES = {
    **{f"conv1.{i}": n for i, n in ((1, 0), (2, 2))},
    **{f"conv2.{i}": n for i, n in ((1, 5), (2, 7))},
    **{f"conv3.{i}": n for i, n in ((1, 10), (2, 12), (3, 14))},
    **{f"conv4.{i}": n for i, n in ((1, 17), (2, 19), (3, 21))},
    **{f"conv5.{i}": n for i, n in ((1, 24), (2, 26), (3, 28))},
    **{"conv6.0": 31, "conv7.0": 33},
}
# The convolutions after VGG16, in the order of the data.
EXTRAS = tuple(f"conv{number}.{i}" for number in range(8, 12) for i in (1, 2))
_MAPS = 6


@dataclass(frozen=True)
class Renamed:
    """What tells such a family from ours; see `Layout` for the two methods.

    Attributes:
        family: name of the layout.
        layers: the family's names of the convolutions, by ours; all but those of the heads.
        norm: its name of `norm4.scale`.
        scores, offsets: its names of the heads, with `{}` for the number of the feature map.
        config: the network that the family's code builds for a number of classes (without the
            background), with 6 feature maps.
        class_names: without the background, by the number of classes, of the datasets that the
            family's own code trains on.
        background_last: the background is the last score of a box instead of the first.
    """

    family: str
    layers: Mapping[str, str]
    norm: str
    scores: str
    offsets: str
    config: Callable[[int], SSDConfig]
    class_names: Mapping[int, Sequence[str]]
    background_last: bool = False

    def inspect(self, header: Header) -> Mismatch | None:
        """See `Layout.inspect`; any number of classes will do."""
        classes = max(self._classes(header), 1)
        keys, shapes = self._keys(), tensor_shapes(self.config(classes), classes)
        expected = {keys[ours]: shape for ours, shape in shapes.items()}
        mismatch = compare(self.family, header.shapes, expected, f"for {classes} classes")
        return mismatch and replace(mismatch, hint=self._hint(header, mismatch))

    def convert(
        self, tensors: Arrays, header: Header, class_names: Sequence[str] | None
    ) -> Weights:
        """See `Layout.convert`; the family's own datasets have known names."""
        classes = self._classes(header)
        names = self.class_names.get(classes) if class_names is None else class_names
        if names is None:
            raise UnnamedClassesError(classes)
        check_count(names, classes)
        keys = self._keys()
        arrays = {ours: tensors[theirs] for ours, theirs in keys.items()}
        if self.background_last:
            for ours in keys:
                if ours.startswith("scores."):
                    arrays[ours] = _background_first(arrays[ours], classes)
        return Weights(
            arrays,
            check_class_names(list(names)),
            self.config(classes),
            {"implementation": self.family},
            bfloat16=frozenset(ours for ours, theirs in keys.items() if theirs in header.bfloat16),
        )

    def _keys(self) -> dict[str, str]:
        """The family's names of all tensors, by ours."""
        heads = {
            f"{ours}.{k}": theirs.format(k)
            for ours, theirs in (("scores", self.scores), ("offsets", self.offsets))
            for k in range(_MAPS)
        }
        layers = {**self.layers, **heads}
        return {"norm4.scale": self.norm} | {
            f"{ours}.{part}": f"{theirs}.{part}"
            for ours, theirs in layers.items()
            for part in ("weight", "bias")
        }

    def _outputs(self, header: Header, head: str) -> int:
        """Channels of a head; 0 where it is missing."""
        shape: Shape = header.shapes.get(f"{head}.bias", ())
        return shape[0] if len(shape) == 1 else 0

    def _boxes(self, header: Header) -> list[int]:
        """Boxes a cell of each feature map, as far as there are heads."""
        counts = (self._outputs(header, self.offsets.format(k)) // 4 for k in range(2 * _MAPS))
        return [count for count in counts if count]

    def _classes(self, header: Header) -> int:
        """Classes without the background, by the first heads; 0 where they are missing."""
        boxes = self._boxes(header)[:1] or [1]
        return max(self._outputs(header, self.scores.format(0)) // boxes[0] - 1, 0)

    def _hint(self, header: Header, mismatch: Mismatch) -> str:
        """What the network is, by its heads; empty where those are not the family's."""
        boxes, expected = self._boxes(header), list(self.config(1).boxes_per_cell)
        if not boxes or not self._outputs(header, self.scores.format(0)):
            return ""
        hints = []
        if len(boxes) != _MAPS:
            maybe = " (SSD512 has 7)" if len(boxes) > _MAPS else ""
            hints.append(f"has {len(boxes)} feature maps with heads, expected {_MAPS}{maybe}")
        elif boxes != expected:
            hints.append(f"has heads for {boxes} default boxes a cell, expected {expected}")
        if any(key.endswith(".running_mean") for key in header.shapes):
            hints.append("has batch normalisation, expected none")
        base = {f"{self.layers[ours]}.weight" for ours in VGG16_PLACES}
        if len(base & set(mismatch.missing)) > len(base) / 2:
            hints.append("has another base network than VGG16")
        return ", ".join(hints)


def _background_first(head: np.ndarray, classes: int) -> np.ndarray:
    """A class head's kernel or bias with the last score of each box moved to its front."""
    per_box = head.reshape(-1, classes + 1, *head.shape[1:])
    return np.roll(per_box, 1, axis=1).reshape(head.shape)
