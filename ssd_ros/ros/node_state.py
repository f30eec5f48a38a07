# SPDX-License-Identifier: Apache-2.0
"""The states of the detector node."""

from enum import Enum


class NodeState(Enum):
    """The life cycle's states, with `active` divided by whether detection is enabled."""

    UNCONFIGURED = "unconfigured"
    INACTIVE = "inactive"
    DETECTING = "detecting"
    PAUSED = "paused"
