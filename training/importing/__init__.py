# SPDX-License-Identifier: Apache-2.0
"""Datasets of other tools and layouts, read for conversion to a VOC-format folder."""
