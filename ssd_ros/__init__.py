# SPDX-License-Identifier: Apache-2.0
"""SSD300 object detection for ROS 2 camera topics."""

__version__ = "0.1.0"
