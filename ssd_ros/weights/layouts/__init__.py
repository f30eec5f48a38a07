# SPDX-License-Identifier: Apache-2.0
"""The families of state dicts that are recognised, one file each; the native format comes first."""

from ssd_ros.weights import native
from ssd_ros.weights.layout import Family, Layout
from ssd_ros.weights.layouts import (
    amdegroot,
    lufficc,
    ml_rover,
    mmdetection,
    nvidia,
    torchvision,
)

LAYOUTS: tuple[Layout, ...] = (native, torchvision, amdegroot, lufficc, mmdetection, ml_rover)
# Recognised for the sake of the message.
REFUSED: tuple[Family, ...] = (nvidia,)
