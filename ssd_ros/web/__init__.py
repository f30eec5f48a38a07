# SPDX-License-Identifier: Apache-2.0
"""A web page with the annotated images; without rclpy, and only `server` needs aiohttp."""
