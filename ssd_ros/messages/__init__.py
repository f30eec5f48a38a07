# SPDX-License-Identifier: Apache-2.0
"""ROS messages to and from the package's own types, without rclpy."""
