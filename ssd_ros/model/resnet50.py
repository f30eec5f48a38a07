# SPDX-License-Identifier: Apache-2.0
"""SSD with ResNet-50 (arXiv 1512.03385): conv1 to conv5, and extra layers.

The stages have the names of that paper's table 1; in a block, 1 to 3 are the convolutions of its
main path and `down` is that of its shortcut. The batch normalisation of the base is part of the
convolutions: a training adds it, weights have it folded. The stride of a block is that of its 3x3
convolution, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.steps import INPUT, Add, Builder, Network, Pool, check_counts

BASE = ("conv1", "conv2", "conv3", "conv4", "conv5")
BLOCKS = (3, 4, 6, 3)  # residual blocks of conv2 to conv5
_EXTRA_STAGES = (2, 2, 1)  # convolutions of conv6 to conv8


def network(config: SSDConfig) -> Network:
    """The table of steps.

    conv4 reads the normalised conv3, as it was in the training of the published weights.

    Raises:
        ValueError: the channels are not of as many stages and convolutions as the network has, or
            differ between the blocks of a stage.
    """
    extras = _EXTRA_STAGES[: max(0, len(config.feature_maps) - 3)]  # three maps are the backbone's
    check_counts(config.channels, (1, *(3 * blocks for blocks in BLOCKS), *extras))
    build, maps = Builder(), []
    x = build.conv(INPUT, "conv1.1", config.channels[0][0], 7, stride=2, padding=3)
    x = build.add(Pool("conv1.pool", (x,), 3, 2, 1))
    for number, stage in enumerate(config.channels[1:5], start=2):
        for block in range(BLOCKS[number - 2]):
            channels = stage[3 * block : 3 * block + 3]
            stride = None if block else 1 if number == 2 else 2
            x = _block(build, x, f"conv{number}.{block + 1}", channels, stride)
        if number == 3:
            x = build.norm(x, "norm3")
        if number >= 3:
            maps.append(x)
    for number, stage in enumerate(config.channels[5:], start=6):
        if len(stage) == 2:
            x = build.conv(x, f"conv{number}.1", stage[0], 1)
        x = build.conv(x, f"conv{number}.{len(stage)}", stage[-1], 3, stride=2, padding=1)
        maps.append(x)
    return Network(tuple(build.steps), tuple(maps))


def _block(build: Builder, x: str, name: str, channels: Sequence[int], stride: int | None) -> str:
    """A residual block; None for the stride of one whose shortcut has no convolution."""
    y = build.conv(x, f"{name}.1", channels[0], 1)
    y = build.conv(y, f"{name}.2", channels[1], 3, stride=stride or 1, padding=1)
    y = build.conv(y, f"{name}.3", channels[2], 1, relu=False)
    if stride:
        x = build.conv(x, f"{name}.down", channels[2], 1, stride=stride, relu=False)
    return build.add(Add(name, (y, x)))
