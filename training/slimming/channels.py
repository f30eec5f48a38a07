# SPDX-License-Identifier: Apache-2.0
"""Which channels a network has, who reads them, and how many are kept. No PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import convolutions, heads, multiply_adds, network
from ssd_ros.model.steps import Conv, Norm, Step, walk

MULTIPLE = 8  # for the vector units, as `config.scaled_channels`


@dataclass(frozen=True)
class Reader:
    """A convolution that reads the channels of another.

    Attributes:
        conv: its name.
        reads: name of the result that it reads; pooling and normalisation keep the channels.
    """

    conv: str
    reads: str


def readers(config: SSDConfig) -> dict[str, tuple[Reader, ...]]:
    """For each convolution but the heads, in the order of the data, who reads its channels.

    Raises:
        ValueError: the backbone adds results, so that channels of several convolutions belong
            together.
    """
    if config.backbone != "vgg16":
        raise ValueError(
            f"only networks with the backbone vgg16 can be pruned, this one has {config.backbone}"
        )
    origin = origins(config)
    found: dict[str, list[Reader]] = {conv.name: [] for conv in convolutions(config)}
    for conv in (*convolutions(config), *heads(config, 1)):
        (result,) = conv.reads
        if result in origin:
            found[origin[result]].append(Reader(conv.name, result))
    return {name: tuple(group) for name, group in found.items()}


def origins(config: SSDConfig) -> dict[str, str]:
    """For each result but the input the convolution whose channels it has."""
    origin: dict[str, str] = {}

    def compute(step: Step, of: str) -> str:
        origin[step.name] = step.name if isinstance(step, Conv) else of
        return origin[step.name]

    walk(network(config), "", compute)
    return origin


def norms(config: SSDConfig) -> dict[str, str]:
    """For each normalisation the result that it reads."""
    return {step.name: step.reads[0] for step in network(config).steps if isinstance(step, Norm)}


def counts(config: SSDConfig) -> dict[str, int]:
    """Output channels of each convolution but the heads."""
    return {conv.name: conv.outputs for conv in convolutions(config)}


def with_counts(config: SSDConfig, kept: Mapping[str, int]) -> SSDConfig:
    """The configuration with other channels, for the backbone vgg16."""
    left = iter([kept[name] for name in counts(config)])
    return replace(
        config, channels=tuple(tuple(next(left) for _ in stage) for stage in config.channels)
    )


def narrower(config: SSDConfig, width: float) -> SSDConfig:
    """The configuration with at most the channels of `width`, a multiplier of the paper's.

    Raises:
        ValueError: the width is out of range.
    """
    target = counts(config.with_width(width))
    return with_counts(
        config, {name: min(count, target[name]) for name, count in counts(config).items()}
    )


def describe(config: SSDConfig) -> str:
    """How wide a network is, for people."""
    if config.width is not None:
        return f"width {config.width:g}"
    return f"layers of different widths, {multiply_adds(config, 1) / 1e9:.2f}e9 multiply-adds"


def steps(config: SSDConfig, target: SSDConfig, count: int) -> list[SSDConfig]:
    """Configurations from one to the target, the target last.

    Args:
        config, target: before the first step, after the last.
        count: of steps, at least 1.

    Returns:
        Each step leaves the same share of a layer's channels, in multiples of `MULTIPLE`.
    """
    start, end = counts(config), counts(target)
    found = []
    for k in range(1, count):
        share = k / count
        between = {
            name: min(
                start[name],
                max(
                    end[name],
                    MULTIPLE * round((start[name] / MULTIPLE) * (end[name] / start[name]) ** share),
                ),
            )
            for name in start
        }
        found.append(with_counts(config, between))
    return [*found, target]
