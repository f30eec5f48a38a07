# SPDX-License-Identifier: Apache-2.0
"""SSD with VGG16: conv1 to conv7, the normalised conv4_3, and the extra layers."""

from __future__ import annotations

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.steps import INPUT, Builder, Network, Pool, check_counts

_STAGES = (2, 2, 3, 3, 3, 1, 1)  # convolutions of conv1 to conv7
# conv8 to conv11: stride and padding of the 3x3 convolution after the 1x1 one.
_EXTRA_STAGES = ((2, 1), (2, 1), (1, 0), (1, 0))


def network(config: SSDConfig) -> Network:
    """The table of steps.

    Raises:
        ValueError: the channels are not of as many stages and convolutions as the network has.
    """
    extras = _EXTRA_STAGES[: max(0, len(config.feature_maps) - 2)]  # two maps are the backbone's
    check_counts(config.channels, (*_STAGES, *[2] * len(extras)))
    build, x = Builder(), INPUT
    for number, stage in enumerate(config.channels[:5], start=1):
        for index, outputs in enumerate(stage, start=1):
            x = build.conv(x, f"conv{number}.{index}", outputs, 3, padding=1)
        if number == 4:
            maps = [build.norm(x, "norm4")]
        name = f"conv{number}.pool"
        if number == 5:
            x = build.add(Pool(name, (x,), 3, stride=1, padding=1))
        else:
            x = build.add(Pool(name, (x,), round_up=number == 3))  # 75 -> 38
    x = build.conv(x, "conv6.0", config.channels[5][0], 3, padding=6, dilation=6)
    x = build.conv(x, "conv7.0", config.channels[6][0], 1)
    maps.append(x)
    for number, ((stride, padding), (squeezed, outputs)) in enumerate(
        zip(extras, config.channels[7:], strict=True), start=8
    ):
        x = build.conv(x, f"conv{number}.1", squeezed, 1)
        x = build.conv(x, f"conv{number}.2", outputs, 3, stride=stride, padding=padding)
        maps.append(x)
    return Network(tuple(build.steps), tuple(maps))
