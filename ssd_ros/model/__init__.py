# SPDX-License-Identifier: Apache-2.0
"""The network and what belongs to it: configuration, default boxes, post-processing. No ROS."""
