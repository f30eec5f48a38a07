# SPDX-License-Identifier: Apache-2.0
"""A trained SSD300 in memory, and what makes it usable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.ssd import SSD300


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Weights:
    """A trained SSD300 and all that is needed to run it.

    Attributes:
        tensors: SSD300's state dict, on the CPU.
        classes: names of the object classes; the network's class k + 1 is classes[k].
        config: default boxes and input normalisation.
        width: channel multiplier.
        training: where the weights come from (data, mAP, iterations, date), for people.
    """

    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...]
    config: SSDConfig
    width: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> SSD300:
        """The network with these weights, float32, on the CPU, in evaluation mode."""
        with torch.device("meta"):  # no time spent on a random start
            model = SSD300(len(self.classes), self.width, self.config)
        tensors = {key: tensor.float() for key, tensor in self.tensors.items()}
        model.load_state_dict(tensors, assign=True)
        return model.eval()


def check_class_names(names: Any) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        WeightsError: they are not different, non-empty texts.
    """
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and name.strip() for name in names)
        or len(set(names)) != len(names)
    ):
        raise WeightsError(f"classes must be different, non-empty names, got {names!r:.200}")
    return tuple(names)


def check_tensors(weights: Weights) -> None:
    """Checks names, shapes, types and values against the network that the metadata describe.

    Raises:
        WeightsError: a tensor is missing, unknown, misshapen, not floating point or not finite.
    """
    with torch.device("meta"):
        expected = SSD300(len(weights.classes), weights.width, weights.config).state_dict()
    found = weights.tensors
    missing = [key for key in expected if key not in found]
    if missing:
        raise WeightsError(f"lacks {some(missing)}")
    unknown = [key for key in found if key not in expected]
    if unknown:
        raise WeightsError(f"holds {some(unknown)}, which SSD300 does not have")
    for key, tensor in found.items():
        if tensor.shape != expected[key].shape:
            raise WeightsError(
                f"tensor '{key}' has shape {tuple(tensor.shape)}, expected "
                f"{tuple(expected[key].shape)} for {len(weights.classes)} classes and "
                f"width {weights.width:g}"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"tensor '{key}' has type {tensor.dtype}, expected floating point")
        if not tensor.isfinite().all():
            raise WeightsError(f"tensor '{key}' holds NaN or infinite values")


def some(keys: Sequence[str]) -> str:
    """The first few tensor names, for a message."""
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"tensor{'s' if len(keys) > 1 else ''} {shown}{more}"
