# SPDX-License-Identifier: Apache-2.0
"""A network as a table of steps, and the one walk along it that everything uses. No PyTorch.

A step reads the results of earlier steps by their names. The engines build the network by walking
along the table with what they make of a step; the sizes of the maps are the same walk with numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

INPUT = "input"  # the normalised image, which is the result of no step


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: of its result; of a step with parameters also the prefix in the state dict.
        reads: names of the results that it is computed from.
    """

    name: str
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Conv(Step):
    """A convolution with bias, and with a ReLU unless `relu` is False."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    relu: bool = True


@dataclass(frozen=True)
class Pool(Step):
    """Max pooling; `round_up`: whether the output's size is rounded up."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    round_up: bool = False


@dataclass(frozen=True)
class Norm(Step):
    """Each position's channels scaled to length 1, then by a learned factor a channel.

    `scale` is the factor at the start of a training. The first feature map needs it: its
    activations are larger than those of the deeper maps (arXiv 1512.02325, section 3.1).
    """

    channels: int
    scale: float = 20.0


@dataclass(frozen=True)
class Add(Step):
    """The sum of two results, with a ReLU: the end of a residual block (arXiv 1512.03385).

    It reads the block's last convolution first, then the shortcut.
    """


@dataclass(frozen=True)
class Network:
    """A network without its heads.

    Attributes:
        steps: in an order in which they can be computed, which is that of the state dict.
        maps: names of the steps that make the feature maps, finest first.
    """

    steps: tuple[Step, ...]
    maps: tuple[str, ...]


def walk(network: Network, x: T, compute: Callable[..., T]) -> list[T]:
    """The feature maps, or whatever stands for them.

    Args:
        network: the table.
        x: what stands for the normalised image.
        compute: makes the result of a step from the step and the results that it reads.
    """
    results = {INPUT: x}
    last = {name: k for k, step in enumerate(network.steps) for name in step.reads}
    for k, step in enumerate(network.steps):
        inputs = [results[name] for name in step.reads]
        for name in step.reads:
            # An activation that nothing reads any more gives its memory back at once.
            if last[name] == k and name not in network.maps:
                results.pop(name, None)
        results[step.name] = compute(step, *inputs)
    return [results[name] for name in network.maps]


def channels_of(step: Step, *inputs: int) -> int:
    """Channels of a step's result; the inputs are those of what it reads.

    Raises:
        ValueError: a sum of results with different channels.
    """
    if len(set(inputs)) > 1:
        raise ValueError(f"channels must be equal where '{step.name}' adds, got {inputs}")
    return step.outputs if isinstance(step, Conv) else inputs[0]


def side_of(step: Step, *inputs: int) -> int:
    """Cells along one side of a step's result; the inputs are those of what it reads."""
    if isinstance(step, Conv):
        covered = step.dilation * (step.kernel - 1) + 1
        return (inputs[0] + 2 * step.padding - covered) // step.stride + 1
    if isinstance(step, Pool):
        free = inputs[0] + 2 * step.padding - step.kernel
        return (-(-free // step.stride) if step.round_up else free // step.stride) + 1
    return inputs[0]


class Builder:
    """Collects steps; each method adds one and returns the name of its result."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._channels = {INPUT: 3}

    def add(self, step: Step) -> str:
        self.steps.append(step)
        self._channels[step.name] = channels_of(step, *map(self._channels.__getitem__, step.reads))
        return step.name

    def conv(self, x: str, name: str, outputs: int, kernel: int, **more: Any) -> str:
        return self.add(Conv(name, (x,), self._channels[x], outputs, kernel, **more))

    def norm(self, x: str, name: str) -> str:
        return self.add(Norm(name, (x,), self._channels[x]))


def check_counts(config_channels: tuple[tuple[int, ...], ...], expected: tuple[int, ...]) -> None:
    """Checks that a configuration has channels for all convolutions of a network.

    Args:
        config_channels: `SSDConfig.channels`.
        expected: channels that each stage has.

    Raises:
        ValueError: there are other stages, or others in a stage.
    """
    if tuple(map(len, config_channels)) != expected:
        raise ValueError(
            f"channels must be of stages with {expected} convolutions, got {config_channels}"
        )
