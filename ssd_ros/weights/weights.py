# SPDX-License-Identifier: Apache-2.0
"""Trained weights in memory, with all that is needed to run them. No PyTorch but in `model`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ssd_ros.model.config import SSDConfig

if TYPE_CHECKING:
    from torch import Tensor

    from ssd_ros.model.ssd import SSD
    from ssd_ros.weights.quantisation import Quantisation


_LONGEST = 2000  # characters of a message
_LONGEST_NAME = 200  # characters of a class name
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories; Cs: halves of a character, which ROS
# messages cannot carry


def printable(text: str) -> str:
    """A text from a file for a line in a log or on a terminal: control characters are escaped, and
    what is very long is cut."""
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and the reason.

    Names and values in it come from the file, so it is made `printable`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@dataclass(frozen=True)
class Weights:
    """A trained network and all that is needed to run it.

    Attributes:
        tensors: the network's state dict: NumPy arrays, as files are read, or PyTorch tensors on
            the CPU, as a training has them. Floating point, 16 to 64 bits.
        classes: names of the object classes; the network's class k + 1 is classes[k].
        config: the network.
        training: where the weights come from (data, mAP, iterations, date), for people.
        bfloat16: names of the arrays that a file stores as bfloat16. NumPy lacks the type; here
            they are float32 with the same values.
        quantisation: what is needed to run the network in int8; None if that was not measured.
    """

    tensors: Mapping[str, np.ndarray] | Mapping[str, Tensor]
    classes: tuple[str, ...]
    config: SSDConfig
    training: Mapping[str, Any] = field(default_factory=dict)
    bfloat16: frozenset[str] = frozenset()
    quantisation: Quantisation | None = None

    def model(self) -> SSD:
        """The PyTorch network with these weights, float32, on the CPU, in evaluation mode."""
        import torch

        from ssd_ros.model.ssd import SSD

        with torch.device("meta"):  # no time spent on a random start
            model = SSD(len(self.classes), config=self.config)
        tensors = {key: torch.as_tensor(value).float() for key, value in self.tensors.items()}
        model.load_state_dict(tensors, assign=True)
        return model.eval()


def check_class_names(names: Any) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        WeightsError: they are not different, non-empty texts, or what neither a message can carry
            nor a terminal should: control characters and parts of characters.
    """
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and name.strip() for name in names)
        or len(set(names)) != len(names)
    ):
        raise WeightsError(f"classes must be different, non-empty names, got {names!r:.200}")
    for name in names:
        if len(name) > _LONGEST_NAME or any(unicodedata.category(c) in _CONTROL for c in name):
            raise WeightsError(
                f"class names must have at most {_LONGEST_NAME} characters and no control "
                f"characters, got {name!r:.200}"
            )
    return tuple(names)
