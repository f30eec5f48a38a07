# SPDX-License-Identifier: Apache-2.0
"""From the network's outputs to detections: the whole batch at once, on a CUDA device.

On the CPU `postprocess_numpy` does the same, faster and without PyTorch.

The order of steps (arXiv 1512.02325, section 3.1 and the end of section 4): softmax; scores
above the threshold; the best `top_k` of each image and class; decoding of only those, cut to the
image; non-maximum suppression within each image and class; the best `max_detections` of each
image. `SSDConfig.nms` says whether boxes are cut before or after the suppression.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from ssd_ros.detections import Thresholds
from ssd_ros.model.box_coding import decode
from ssd_ros.model.config import NMS, VARIANCES, SSDConfig
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.model.precision import all_finite, name_of


class Postprocessor:
    """`postprocess` with all that stays the same from frame to frame, kept on the device.

    Args:
        config: default boxes and variances.
        thresholds: scores, overlaps and counts.
        class_mask: bool (C,), the classes to report; None for all.
        device: of the network's outputs.
    """

    def __init__(
        self,
        config: SSDConfig,
        thresholds: Thresholds,
        class_mask: np.ndarray | None = None,
        device: str = "cpu",
    ) -> None:
        self._thresholds, self._variances, self._nms = thresholds, config.variances, config.nms
        self._defaults = torch.from_numpy(default_boxes(config)).to(device)
        self._mask = None if class_mask is None else torch.from_numpy(class_mask).to(device)

    @torch.inference_mode()
    def __call__(self, logits: Tensor, offsets: Tensor) -> np.ndarray:
        """The rows of `postprocess` as a NumPy array: one copy to the host for the batch.

        Raises:
            NotFiniteError: the outputs are not finite; no score is above a threshold then.
        """
        finite = all_finite(logits, offsets)  # comes with the rows: no wait of its own on a GPU
        options = (self._thresholds, self._mask, self._variances, self._nms)
        rows = postprocess(logits, offsets, self._defaults, *options)
        on_host = torch.cat((finite.float().expand(1, rows.shape[1]), rows)).cpu().numpy()
        if not on_host[0, 0]:
            raise NotFiniteError(name_of(logits.dtype))
        return on_host[1:]


def postprocess(
    logits: Tensor,
    offsets: Tensor,
    defaults: Tensor,
    thresholds: Thresholds,
    class_mask: Tensor | None = None,
    variances: Sequence[float] = VARIANCES,
    nms: NMS = "after_clipping",
) -> Tensor:
    """Detections of a batch.

    Args:
        logits: (B, N, 1 + C) class scores before the softmax, background first.
        offsets: (B, N, 4) offsets from the default boxes.
        defaults: (N, 4) default boxes.
        thresholds: scores, overlaps and counts.
        class_mask: bool (C,), the classes to report; None for all.
        variances: of the offsets.
        nms: as in `SSDConfig`.

    Returns:
        float32 tensor (D, 7), one row a detection: index of the image in the batch, 0-based
        class, score, and x1 y1 x2 y2 as fractions of the image, 0 <= x1 < x2 <= 1. Sorted by
        image, then by descending score. One tensor, so that one copy brings it to the host.
    """
    probabilities = logits.float().softmax(dim=-1)[..., 1:]
    passed = probabilities > thresholds.score_threshold
    if class_mask is not None:
        passed &= class_mask
    image_index, box, label = passed.nonzero(as_tuple=True)
    score = probabilities[image_index, box, label]

    # Rows are chosen by index: a GPU is waited for at each mask, and once for all its columns.
    best_first = score.argsort(descending=True, stable=True)
    group = image_index * probabilities.shape[-1] + label
    rows = best_first[_first_in_group(group[best_first], thresholds.top_k)]

    chosen = offsets[image_index[rows], box[rows]].float()
    corners = decode(chosen, defaults[box[rows]].float(), variances)
    if nms == "after_clipping":
        rows, corners = _visible(rows, corners)
    kept = _suppress(corners, score[rows], group[rows], thresholds.nms_iou_threshold)
    rows, corners = rows[kept], corners[kept]
    within = _first_in_group(image_index[rows], thresholds.max_detections)
    rows, corners = rows[within], corners[within]
    if nms == "before_clipping":
        rows, corners = _visible(rows, corners)

    by_image = image_index[rows].argsort(stable=True)
    rows, corners = rows[by_image], corners[by_image]
    columns = torch.stack((image_index[rows], label[rows]), dim=1).float()
    return torch.cat((columns, score[rows, None], corners), dim=1)


def _visible(rows: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """The rows whose boxes lie in the image at least in part, and those parts."""
    corners = corners.clamp(0, 1)
    visible = (corners[:, 2:] > corners[:, :2]).all(dim=1).nonzero()[:, 0]
    return rows[visible], corners[visible]


def _suppress(boxes: Tensor, scores: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that stay, in their order, each group by itself.

    In double precision: torchvision keeps groups apart by moving them to far coordinates, where
    single precision would make an image's result depend on its place in the batch.
    """
    return batched_nms(boxes.double(), scores.double(), group, iou_threshold).sort().values


def _first_in_group(group: Tensor, count: int) -> Tensor:
    """Indices, ascending, of the first `count` rows of each group."""
    ordered, order = group.sort(stable=True)
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(ordered, ordered)
    first = torch.zeros_like(order, dtype=torch.bool)
    first[order] = rank < count
    return first.nonzero()[:, 0]
