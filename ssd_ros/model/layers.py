# SPDX-License-Identifier: Apache-2.0
"""The network as a table: its convolutions, its tensors' shapes, its maps' sizes. No PyTorch.

Whatever builds or checks a network reads this table: the PyTorch modules, and the check of a
weights file before its tensors are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssd_ros.model.config import SSDConfig

Shape = tuple[int, ...]

_VGG16_STAGES = (2, 2, 3, 3, 3, 1, 1)  # convolutions of conv1 to conv7
# conv8 to conv11: stride and padding of the 3x3 convolution after the 1x1 one.
_EXTRA_STAGES = ((2, 1), (2, 1), (1, 0), (1, 0))


@dataclass(frozen=True)
class Conv:
    """One convolution with bias; `name` is its prefix in the state dict, `stage.index`."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def stage(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Pool:
    """Max pooling; `round_up`: whether the output's size is rounded up."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    round_up: bool = False


POOLING = {  # after which stages VGG16 pools
    **{"conv1": Pool(), "conv2": Pool(), "conv3": Pool(round_up=True), "conv4": Pool()},  # 75 -> 38
    "conv5": Pool(3, stride=1, padding=1),
}


def convolutions(config: SSDConfig) -> tuple[Conv, ...]:
    """All convolutions but the heads', in the order of the data.

    Raises:
        ValueError: the channels are not of as many stages and convolutions as the network has.
    """
    extras = len(config.feature_maps) - 2  # the first two maps are the backbone's
    expected = (*_VGG16_STAGES, *[2] * extras)
    if not 0 <= extras <= len(_EXTRA_STAGES) or tuple(map(len, config.channels)) != expected:
        raise ValueError(
            f"channels must be of stages with {expected} convolutions for "
            f"{len(config.feature_maps)} feature maps, got {config.channels}"
        )
    table: list[Conv] = []
    inputs = 3
    for number, stage in enumerate(config.channels, start=1):
        for index, outputs in enumerate(stage, start=1):
            table.append(_conv(number, index, inputs, outputs))
            inputs = outputs
    return tuple(table)


def _conv(number: int, index: int, inputs: int, outputs: int) -> Conv:
    """The convolution `index` of stage `number`, both counted from 1."""
    if number <= 5:
        return Conv(f"conv{number}.{index}", inputs, outputs, 3, padding=1)
    if number == 6:
        return Conv("conv6.0", inputs, outputs, 3, padding=6, dilation=6)
    if number == 7:
        return Conv("conv7.0", inputs, outputs, 1)
    if index == 1:
        return Conv(f"conv{number}.1", inputs, outputs, 1)
    stride, padding = _EXTRA_STAGES[number - 8]
    return Conv(f"conv{number}.2", inputs, outputs, 3, stride, padding)


def map_channels(config: SSDConfig) -> tuple[int, ...]:
    """Channels of each feature map: of conv4, conv7 and the extra stages."""
    return tuple(config.channels[k][-1] for k in (3, *range(6, len(config.channels))))


def check_cells(config: SSDConfig) -> None:
    """Checks that the feature maps have the sizes that the network makes of its input.

    Raises:
        ValueError: they have others.
    """
    side = -(-(config.input_size // 4) // 2)  # three poolings, the last one rounds up
    made = [side, side // 2]
    for conv in convolutions(config):
        if conv.stage not in {f"conv{number}" for number in range(1, 8)} and conv.kernel > 1:
            made.append((made[-1] + 2 * conv.padding - conv.kernel) // conv.stride + 1)
    cells = [feature_map.cells for feature_map in config.feature_maps]
    if cells != made:
        raise ValueError(
            f"feature_maps have {cells} cells, but an input of {config.input_size} pixels "
            f"makes maps of {made}"
        )


def tensor_shapes(config: SSDConfig, num_classes: int) -> dict[str, Shape]:
    """Names and shapes of the state dict.

    Args:
        config: the network.
        num_classes: object classes, without the background.

    Raises:
        ValueError: the configuration does not fit the backbone.
    """
    check_cells(config)
    shapes: dict[str, Shape] = {"norm4.scale": (config.channels[3][-1],)}
    for conv in (*convolutions(config), *heads(config, num_classes)):
        shapes[f"{conv.name}.weight"] = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
        shapes[f"{conv.name}.bias"] = (conv.outputs,)
    return shapes


def heads(config: SSDConfig, num_classes: int) -> tuple[Conv, ...]:
    """The convolutions of the heads, `scores.k` and `offsets.k` of feature map k.

    Args:
        config: the network.
        num_classes: object classes, without the background.
    """
    maps = zip(map_channels(config), config.boxes_per_cell, strict=True)
    return tuple(
        Conv(f"{head}.{k}", channels, boxes * values, 3, padding=1)
        for k, (channels, boxes) in enumerate(maps)
        for head, values in (("scores", num_classes + 1), ("offsets", 4))
    )


def activations(config: SSDConfig) -> tuple[str, ...]:
    """Names of what the convolutions read, but for the input: the ReLU's output has the name of its
    convolution, the normalised conv4 that of its scale, `norm4`."""
    return (*(conv.name for conv in convolutions(config)), "norm4")
