# SPDX-License-Identifier: Apache-2.0
"""What follows from a network's table of steps: its tensors, heads and activations. No PyTorch."""

from __future__ import annotations

from ssd_ros.model import resnet50, vgg16
from ssd_ros.model.config import SSDConfig
from ssd_ros.model.steps import INPUT, Conv, Network, Norm, Pool, Step, channels_of, side_of, walk

Shape = tuple[int, ...]

_NETWORKS = {"vgg16": vgg16.network, "resnet50": resnet50.network}


def network(config: SSDConfig) -> Network:
    """The steps of a configuration's network, without the heads.

    Raises:
        ValueError: the channels are not of as many stages and convolutions as the network has.
    """
    return _NETWORKS[config.backbone](config)


def convolutions(config: SSDConfig) -> tuple[Conv, ...]:
    """All convolutions but the heads', in the order of the data.

    Raises:
        ValueError: as `network`.
    """
    return tuple(step for step in network(config).steps if isinstance(step, Conv))


def check_cells(config: SSDConfig) -> None:
    """Checks that the feature maps have the sizes that the network makes of its input.

    Raises:
        ValueError: they have others.
    """
    made = walk(network(config), config.input_size, side_of)
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
    norms = (step for step in network(config).steps if isinstance(step, Norm))
    shapes: dict[str, Shape] = {f"{norm.name}.scale": (norm.channels,) for norm in norms}
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
    table = network(config)
    channels = walk(table, 3, channels_of)
    maps = zip(table.maps, channels, config.boxes_per_cell, strict=True)
    return tuple(
        Conv(f"{head}.{k}", (name,), inputs, boxes * values, 3, padding=1, relu=False)
        for k, (name, inputs, boxes) in enumerate(maps)
        for head, values in (("scores", num_classes + 1), ("offsets", 4))
    )


def multiply_adds(config: SSDConfig, num_classes: int) -> int:
    """Multiplications (each with an addition) of the network on one image."""
    sides: dict[str, int] = {}

    def compute(step: Step, *inputs: int) -> int:
        return sides.setdefault(step.name, side_of(step, *inputs))

    walk(network(config), config.input_size, compute)
    sides |= {head.name: sides[head.reads[0]] for head in heads(config, num_classes)}
    return sum(
        conv.inputs * conv.outputs * conv.kernel**2 * sides[conv.name] ** 2
        for conv in (*convolutions(config), *heads(config, num_classes))
    )


def activations(config: SSDConfig) -> tuple[str, ...]:
    """Names of the results that convolutions read, but for the input: those are quantised.

    Behind a pooling it is what is pooled, as the maximum of rounded values is one of them.
    """
    steps = network(config).steps
    pooled = {step.name: step.reads for step in steps if isinstance(step, Pool)}
    convs = (*convolutions(config), *heads(config, 1))
    read = {name for conv in convs for x in conv.reads for name in pooled.get(x, (x,))}
    return tuple(step.name for step in steps if step.name in read - {INPUT})
