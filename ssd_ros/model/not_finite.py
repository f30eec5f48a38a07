# SPDX-License-Identifier: Apache-2.0
"""Outputs of a network that cannot be used. No PyTorch."""

from __future__ import annotations


class NotFiniteError(RuntimeError):
    """The network's outputs contain NaN or infinity, so detections would be missing.

    Args:
        precision: in which the network ran.
    """

    def __init__(self, precision: str) -> None:
        super().__init__(
            f"the network's outputs are not finite (NaN or infinity) in {precision}: "
            "the weights exceed this precision or are broken"
        )
