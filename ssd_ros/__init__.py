# SPDX-License-Identifier: Apache-2.0
"""SSD300 object detection for ROS 2 camera topics."""

import os
import sys

__version__ = "0.1.0"

# Iterations for which the threads of GNU OpenMP, which PyTorch uses, busy-wait for work before they
# sleep. With the default they busy-wait for a millisecond or more after each layer, while other
# processes need the cores: next to two busy processes, inference that takes 45 ms on an idle
# machine took 86 to 760 ms. With this value it takes 83 to 91 ms, and the same 45 ms on an idle
# machine; lower values are slower there. PyTorch reads the variable when it is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

# OpenVINO and NNCF report each import and use to a web service where they find this module, from a
# process of its own. A robot must not, and does not need the memory. Without it they run as usual.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

if sys.argv[:1] == ["-m"]:  # so it is while Python looks for the module of `python -m ssd_ros.…`
    from ssd_ros import command_line

    command_line.explain_ends()
