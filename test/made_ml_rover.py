# SPDX-License-Identifier: Apache-2.0
"""ml-rover's SSD300 with ResNet-50: random checkpoints of it, and what its own definition computes.

Written from the published names, shapes and formulas with plain functions of PyTorch, and without
this package's network, so that tests can compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = (38, 19, 10, 5, 3, 2)
# Prefix, blocks, channels inside and behind a block, stride of the first one.
STAGES = (
    ("stage1.4", 3, 64, 256, 1),
    ("stage2", 4, 128, 512, 2),
    ("stage3", 6, 256, 1024, 2),
    ("stage4", 3, 512, 2048, 2),
)
EXTRAS = (  # each with a ReLU: name, inputs, outputs, kernel
    *(("extra1.0", 2048, 512, 1), ("extra1.2", 512, 512, 3), ("extra2.0", 512, 256, 1)),
    *(("extra2.2", 256, 256, 3), ("extra3.0", 256, 256, 3)),
)
MAP_CHANNELS = (512, 1024, 2048, 512, 256, 256)
BOXES = 6


def state_dict(outputs: int = 21, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors, with statistics that matter and scores of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(name: str, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        shape = (outputs, inputs, kernel, kernel)
        scale = math.sqrt(2 / (inputs * kernel**2))
        state[f"{name}.weight"] = scale * torch.randn(shape, generator=generator)
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def norm(name: str, channels: int, scale: float = 1.0) -> None:
        state[f"{name}.weight"] = scale * (0.5 + torch.rand(channels, generator=generator))
        state[f"{name}.bias"] = 0.2 * torch.randn(channels, generator=generator)
        state[f"{name}.running_mean"] = 0.2 * torch.randn(channels, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1234)

    conv("stage1.0", 3, 64, 7, bias=False)
    norm("stage1.1", 64)
    inputs = 64
    for name, blocks, inner, outer, _ in STAGES:
        for k in range(blocks):
            block = f"{name}.{k}"
            for i, (a, b, kernel) in enumerate(
                ((inputs, inner, 1), (inner, inner, 3), (inner, outer, 1)), start=1
            ):
                conv(f"{block}.conv{i}", a, b, kernel, bias=False)
                norm(f"{block}.bn{i}", b, 0.3 if i == 3 else 1.0)
            if k == 0:
                conv(f"{block}.downsample.0", inputs, outer, 1, bias=False)
                norm(f"{block}.downsample.1", outer)
            inputs = outer
    state["l2norm.weight"] = 20 + torch.randn(512, generator=generator)
    for layer in EXTRAS:
        conv(*layer)
    for k, channels in enumerate(MAP_CHANNELS):
        conv(f"loc_layers.{k}", channels, 4 * BOXES, 3)
        conv(f"conf_layers.{k}", channels, outputs * BOXES, 3)
        state[f"conf_layers.{k}.bias"].view(BOXES, outputs)[:, 0] += 2
    state["default_boxes"], state["default_boxes_xyxy"] = (b.float() for b in default_boxes())
    return state


def default_boxes() -> tuple[Tensor, Tensor]:
    """Centre and size, clamped, and the corners of those, clamped again; (11658, 4) each."""
    scales, boxes = (0.2, 0.34, 0.48, 0.62, 0.76, 0.9, 1.0), []
    for k, cells in enumerate(CELLS):
        side, larger = scales[k], math.sqrt(scales[k] * scales[k + 1])
        sides = [(side, side), (larger, larger)]
        for ratio in (2, 0.5):
            root = math.sqrt(ratio)
            sides += [(side * root, side / root), (side / root, side * root)]
        for row, column in product(range(cells), repeat=2):
            boxes += [((column + 0.5) / cells, (row + 0.5) / cells, *size) for size in sides]
    centred = torch.tensor(boxes, dtype=torch.float64).clamp(0, 1)
    half = centred[:, 2:] / 2
    return centred, torch.cat((centred[:, :2] - half, centred[:, :2] + half), dim=1).clamp(0, 1)


def evaluate(state: dict[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (11658, C) without the background, and corners (11658, 4) as fractions.

    Args:
        state: of `state_dict`.
        image: uint8 RGB (300, 300, 3).
    """
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    x = ((image / 255 - mean) / std).permute(2, 0, 1)[None]
    offsets, logits = [], []
    for k, features in enumerate(_features(state, x)):
        for rows, name in ((offsets, f"loc_layers.{k}"), (logits, f"conf_layers.{k}")):
            y = F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
            rows.append(y[0].permute(1, 2, 0).reshape(BOXES * CELLS[k] ** 2, -1))
    offset, score = torch.cat(offsets), torch.cat(logits).softmax(dim=1)
    low, high = default_boxes()[1].split(2, dim=1)
    centre = (low + high) / 2 + 0.1 * offset[:, :2] * (high - low)
    half = (high - low) * (0.2 * offset[:, 2:]).exp() / 2
    return score[:, 1:], torch.cat((centre - half, centre + half), dim=1)


def _features(state: dict[str, Tensor], x: Tensor) -> Iterator[Tensor]:
    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        y = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=padding)
        return F.batch_norm(y, *(state[f"{norm}.{part}"] for part in parts))

    x = F.max_pool2d(conv_norm(x, "stage1.0", "stage1.1", 2, 3).relu(), 3, 2, 1)
    for name, blocks, _, _, stride in STAGES:
        for k in range(blocks):
            block, step = f"{name}.{k}", 1 if k else stride
            y = conv_norm(x, f"{block}.conv1", f"{block}.bn1").relu()
            y = conv_norm(y, f"{block}.conv2", f"{block}.bn2", step, 1).relu()
            y = conv_norm(y, f"{block}.conv3", f"{block}.bn3")
            if k == 0:
                x = conv_norm(x, f"{block}.downsample.0", f"{block}.downsample.1", step)
            x = (x + y).relu()
        if name == "stage2":
            length = x.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-10)
            x = state["l2norm.weight"][:, None, None] * x / length
        if name != "stage1.4":
            yield x
    for name, _, _, kernel in EXTRAS:
        wide = kernel == 3
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        x = F.conv2d(x, weight, bias, stride=1 + wide, padding=int(wide)).relu()
        if wide:
            yield x
