# SPDX-License-Identifier: Apache-2.0
"""Training of SSD300: a PASCAL VOC data set in, weights for the node out."""
