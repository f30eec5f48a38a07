# SPDX-License-Identifier: Apache-2.0
"""The families of state dicts that can be read, one file each; the native format comes first."""

from ssd_ros.weights import native
from ssd_ros.weights.layout import Layout
from ssd_ros.weights.layouts import ml_rover, torchvision

LAYOUTS: tuple[Layout, ...] = (native, torchvision, ml_rover)
