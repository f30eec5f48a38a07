# SPDX-License-Identifier: Apache-2.0
"""The SSD300 network and what belongs to it: boxes, post-processing, weights files. No ROS."""
