# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC datasets: reading, checking, augmentation, batches."""
