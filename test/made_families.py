# SPDX-License-Identifier: Apache-2.0
"""SSD300 as other implementations define it: random checkpoints of theirs, and their outputs.

Written from their published definitions with plain functions of PyTorch, and without this
package's network, default boxes, names or configurations, so that tests can compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Place in the list of VGG16's layers: input and output channels, and kernel. All places between
# are ReLU, but for the poolings.
VGG = {
    **{0: (3, 64, 3), 2: (64, 64, 3), 5: (64, 128, 3), 7: (128, 128, 3)},
    **{10: (128, 256, 3), 12: (256, 256, 3), 14: (256, 256, 3)},
    **{17: (256, 512, 3), 19: (512, 512, 3), 21: (512, 512, 3)},
    **{24: (512, 512, 3), 26: (512, 512, 3), 28: (512, 512, 3)},
    **{31: (512, 1024, 3), 33: (1024, 1024, 1)},
}
POOLS = (4, 9, 16, 23, 30)
EXTRAS = (  # input and output channels, kernel, stride, padding
    *((1024, 256, 1, 1, 0), (256, 512, 3, 2, 1), (512, 128, 1, 1, 0), (128, 256, 3, 2, 1)),
    *((256, 128, 1, 1, 0), (128, 256, 3, 1, 0), (256, 128, 1, 1, 0), (128, 256, 3, 1, 0)),
)
HEADS = ((512, 4), (1024, 6), (512, 6), (256, 6), (256, 4), (256, 4))  # channels, boxes a cell
CELLS, STEPS = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
VOC_SIZES, COCO_SIZES = (30, 60, 111, 162, 213, 264, 315), (21, 45, 99, 153, 207, 261, 315)


@dataclass(frozen=True)
class Family:
    """Names and numbers of an implementation.

    Attributes:
        vgg, extra, norm, loc, conf: its names of tensors, for a place in a list.
        mean: of the RGB channels, 0 to 255.
        clip: whether default boxes are cut to the image.
        nms_clipped: whether boxes are cut to the image before non-maximum suppression.
        background: index of the background among the scores of a box.
        voc_outputs: numbers of outputs for which the default boxes are VOC's; None for all but 81.
    """

    vgg: str
    extra: tuple[str, ...]
    norm: str
    loc: str
    conf: str
    mean: tuple[float, float, float]
    clip: bool
    nms_clipped: bool
    background: int
    voc_outputs: tuple[int, ...] | None = (21,)

    def sizes(self, outputs: int) -> tuple[int, ...]:
        """Sides of the square default boxes in pixels, for a number of outputs."""
        is_voc = outputs != 81 if self.voc_outputs is None else outputs in self.voc_outputs
        return VOC_SIZES if is_voc else COCO_SIZES

    def shapes(self, outputs: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the state dict."""
        shapes: dict[str, tuple[int, ...]] = {self.norm: (512,)}

        def add(name: str, inputs: int, outputs: int, kernel: int) -> None:
            shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
            shapes[f"{name}.bias"] = (outputs,)

        for place, layer in VGG.items():
            add(self.vgg.format(place), *layer)
        for name, layer in zip(self.extra, EXTRAS, strict=True):
            add(name, *layer[:3])
        for k, (channels, boxes) in enumerate(HEADS):
            add(self.loc.format(k), channels, boxes * 4, 3)
            add(self.conf.format(k), channels, boxes * outputs, 3)
        return shapes

    def state_dict(self, outputs: int, seed: int = 0) -> dict[str, Tensor]:
        """Random tensors that give scores of all sizes, and boxes near the default boxes."""
        generator = torch.Generator().manual_seed(seed)
        state = {}
        for key, shape in self.shapes(outputs).items():
            tensor = torch.randn(shape, generator=generator)
            if key == self.norm:
                tensor = 20 + tensor
            elif len(shape) == 1:
                tensor *= 0.1
            else:
                tensor *= math.sqrt(2 / math.prod(shape[1:]))
            state[key] = tensor
        pixels = 60.0  # about the standard deviation of a photograph's, which the mean is taken off
        state[f"{self.vgg.format(0)}.weight"] /= pixels
        for k in range(len(HEADS)):
            state[f"{self.loc.format(k)}.weight"] *= 0.5
            state[f"{self.conf.format(k)}.weight"] *= 1.5
            bias = state[f"{self.conf.format(k)}.bias"].view(-1, outputs)
            bias[:, self.background] += 4
        return state

    def default_boxes(self, outputs: int) -> Tensor:
        """Centre x and y, width and height as fractions, (8732, 4) in double precision."""
        sizes, boxes = self.sizes(outputs), []
        for k, (cells, step) in enumerate(zip(CELLS, STEPS, strict=True)):
            small, large = sizes[k], math.sqrt(sizes[k] * sizes[k + 1])
            sides = [(small, small), (large, large)]
            for ratio in RATIOS[k]:  # width over height, then its inverse
                root = math.sqrt(ratio)
                sides += [(small * root, small / root), (small / root, small * root)]
            for y in range(cells):
                for x in range(cells):
                    centre = ((x + 0.5) * step, (y + 0.5) * step)
                    boxes += [(*centre, *side) for side in sides]
        table = torch.tensor(boxes, dtype=torch.float64) / 300
        return table.clamp(0, 1) if self.clip else table

    def evaluate(self, state: dict[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (8732, C) without the background, and corners (8732, 4) as fractions.

        Args:
            state: of `shapes`.
            image: uint8 RGB (300, 300, 3).
        """
        x = (image.float() - torch.tensor(self.mean)).permute(2, 0, 1)[None]
        loc, conf = [], []
        for k, features in enumerate(self._features(state, x)):
            for rows, name in ((loc, self.loc), (conf, self.conf)):
                head = name.format(k)
                y = F.conv2d(features, state[f"{head}.weight"], state[f"{head}.bias"], padding=1)
                rows.append(y[0].permute(1, 2, 0).reshape(features[0, 0].numel(), -1))
        outputs = conf[0].shape[1] // HEADS[0][1]
        scores = torch.cat([row.reshape(-1, outputs) for row in conf]).softmax(dim=1)
        objects = [i for i in range(outputs) if i != self.background % outputs]
        offsets = torch.cat([row.reshape(-1, 4) for row in loc])
        defaults = self.default_boxes(outputs)
        centre = defaults[:, :2] + 0.1 * offsets[:, :2] * defaults[:, 2:]
        half = defaults[:, 2:] * (0.2 * offsets[:, 2:]).exp() / 2
        return scores[:, objects], torch.cat((centre - half, centre + half), dim=1)

    def _features(self, state: dict[str, Tensor], x: Tensor) -> Iterator[Tensor]:
        for place in range(35):
            name = self.vgg.format(place)
            if place in POOLS:
                fine = place == 30
                x = F.max_pool2d(x, 3 if fine else 2, 1 if fine else 2, int(fine), ceil_mode=True)
            elif place in VGG:
                padding, dilation = {31: (6, 6), 33: (0, 1)}.get(place, (1, 1))
                weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
                x = F.conv2d(x, weight, bias, padding=padding, dilation=dilation).relu()
            if place == 22:
                length = x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
                yield state[self.norm][:, None, None] * x / length
        yield x
        for place, (name, layer) in enumerate(zip(self.extra, EXTRAS, strict=True)):
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            x = F.conv2d(x, weight, bias, stride=layer[3], padding=layer[4]).relu()
            if place % 2:
                yield x


FAMILIES = {
    "amdegroot/ssd.pytorch's SSD300": Family(
        vgg="vgg.{}",
        extra=tuple(f"extras.{k}" for k in range(8)),
        norm="L2Norm.weight",
        loc="loc.{}",
        conf="conf.{}",
        mean=(123, 117, 104),
        clip=True,
        nms_clipped=False,
        background=0,
    ),
    "lufficc/SSD's SSD300": Family(
        vgg="backbone.vgg.{}",
        extra=tuple(f"backbone.extras.{k}" for k in range(8)),
        norm="backbone.l2_norm.weight",
        loc="box_head.predictor.reg_headers.{}",
        conf="box_head.predictor.cls_headers.{}",
        mean=(123, 117, 104),
        clip=True,
        nms_clipped=False,
        background=0,
        voc_outputs=None,
    ),
    "mmdetection's SSD300": Family(
        vgg="backbone.features.{}",
        extra=tuple(f"neck.extra_layers.{k}.{i}.conv" for k in range(4) for i in range(2)),
        norm="neck.l2_norm.weight",
        loc="bbox_head.reg_convs.{}.0",
        conf="bbox_head.cls_convs.{}.0",
        mean=(123.675, 116.28, 103.53),
        clip=False,
        nms_clipped=True,
        background=-1,
    ),
}
