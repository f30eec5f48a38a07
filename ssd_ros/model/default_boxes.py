# SPDX-License-Identifier: Apache-2.0
"""The default boxes of a network: centre x, centre y, width, height as fractions of the image."""

from __future__ import annotations

import numpy as np

from ssd_ros.model.config import FeatureMap, SSDConfig


def default_boxes(config: SSDConfig) -> np.ndarray:
    """The default boxes of a configuration, in the order of the network's outputs.

    Maps run from the finest to the coarsest, cells along the rows of a map; in a cell the boxes
    have the order of `FeatureMap.box_sizes`.

    Returns:
        float32 (N, 4) with N = config.box_count: cx, cy, w, h as fractions.
    """
    # In double precision, and rounded once: training and inference must agree to the last bit.
    boxes = np.concatenate([_map_boxes(m, config.input_size) for m in config.feature_maps])
    if config.clip == "size":
        boxes[:, 2:] = boxes[:, 2:].clip(max=1)
    elif config.clip == "centre_and_size":
        boxes = boxes.clip(0, 1)
    elif config.clip == "corners":
        centres, half = boxes[:, :2], boxes[:, 2:] / 2
        low, high = (centres - half).clip(min=0), (centres + half).clip(max=1)
        boxes = np.concatenate(((low + high) / 2, high - low), axis=1)
    return boxes.astype(np.float32)


def _map_boxes(feature_map: FeatureMap, input_size: int) -> np.ndarray:
    """Boxes of all cells of one map, float64 (cells * cells * A, 4)."""
    cells, sizes = feature_map.cells, np.array(feature_map.box_sizes)
    centres = (np.arange(cells) + 0.5) * feature_map.step / input_size
    boxes = np.empty((cells, cells, len(sizes), 4))
    boxes[..., 0] = centres[None, :, None]
    boxes[..., 1] = centres[:, None, None]
    boxes[..., 2:] = sizes
    return boxes.reshape(-1, 4)
