# SPDX-License-Identifier: Apache-2.0
"""Training of SSD: a PASCAL VOC dataset in, weights for the node out."""

import ssd_ros  # noqa: F401 - it sets PyTorch's threads up, which has to be before PyTorch is loaded
