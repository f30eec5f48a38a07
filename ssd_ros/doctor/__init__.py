# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an installation and with a running ROS graph, and how to fix it.

Each module has a function that looks (`probe`), and a pure one that judges what was found.
"""
