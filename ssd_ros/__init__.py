# SPDX-License-Identifier: Apache-2.0
"""SSD300 object detection for ROS 2 camera topics."""

import os

__version__ = "0.1.0"

# How long PyTorch's threads (GNU OpenMP's) look for work before they sleep, in rounds of a loop. By
# default they look for a millisecond and more after each layer, and on a robot other processes
# need the cores meanwhile: beside two of them a network that takes 45 ms alone took 86 to 760 ms.
# With this it takes 83 to 91, and alone as long as before; with less it sleeps too often to be as
# fast alone. It is read when PyTorch is loaded, so it has to be set before.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
