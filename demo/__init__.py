# SPDX-License-Identifier: Apache-2.0
"""The demo and its data; not installed."""

import ssd_ros  # noqa: F401 - which explains how a command ends
