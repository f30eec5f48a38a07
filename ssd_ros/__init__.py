# SPDX-License-Identifier: Apache-2.0
"""SSD300 object detection for ROS 2 camera topics."""

import os

__version__ = "0.1.0"

# How long PyTorch's threads (GNU OpenMP's) look for work before they sleep, in rounds of a loop.
# By default they look for about a millisecond after every layer. On a robot other processes need
# the cores meanwhile, and a network that takes 35 ms alone took 150 to 760 ms beside two of them;
# with this it takes 75, and alone as long as before (`python benchmarks/promises.py` measures
# it). It is read when PyTorch is loaded, so it has to be set before.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
