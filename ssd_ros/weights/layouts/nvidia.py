# SPDX-License-Identifier: Apache-2.0
"""The state dict of NVIDIA's SSD300 (DeepLearningExamples), whose network is none of ours.

MLPerf's SSD300 with ResNet-34, from which it comes, has the same names behind its base network.
"""

from __future__ import annotations

from ssd_ros.weights.containers import Header
from ssd_ros.weights.layout import Mismatch

FAMILY = "NVIDIA's SSD300"

_MARKS = ("additional_blocks.0.0.weight", "loc.0.weight", "conf.0.weight")


def inspect(header: Header) -> Mismatch:
    """See `Family.inspect`; there is always a mismatch."""
    missing = tuple(key for key in _MARKS if key not in header.shapes)
    if missing:
        return Mismatch(FAMILY, missing, matching=len(_MARKS) - len(missing))
    return Mismatch(
        FAMILY,
        matching=len(header.shapes),
        hint="its network is another one: a ResNet without its last stage, its third one at twice "
        "the resolution, no normalisation of the first map, and batch normalisation in the extra "
        "layers",
    )
