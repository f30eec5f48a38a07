# SPDX-License-Identifier: Apache-2.0
"""Giving the channels of a pruned network the mean and the spread that they had before.

What removed channels contributed is missing in the sums of the convolutions that read them: their
mean moves and their spread shrinks, more with every layer, until hardly anything passes the last
ReLUs. A factor and a shift of each channel, folded into the convolution, undo both. Known from
joined networks (REPAIR, arXiv 2211.08403) and, for the mean alone, from quantised ones (arXiv
1906.04721).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ssd_ros.model.ssd import SSD
from training.slimming.activations import Moments, convolutions

_LIMIT = 4.0  # of the factor, and its inverse: a channel that has lost more than that is only noise


@torch.inference_mode()
def restore(
    model: SSD, keep: Mapping[str, np.ndarray], sums: Mapping[str, Moments], images: Tensor
) -> None:
    """Changes kernels and biases, so that all sums have the moments of the whole network.

    One walk, as a convolution is measured when those before it are restored. All images take part
    in it at once; they need about 50 MB each at the width 1.

    Args:
        model: the pruned network, in evaluation mode.
        keep: for each convolution but the heads the channels of the whole network that it has.
        sums: of the whole network on these images, see `Activations`.
        images: uint8 (N, S, S, 3) on the model's device.
    """
    hooks = []
    for name, conv in convolutions(model).items():
        kept, whole = keep.get(name, slice(None)), sums[name]
        mean, variance = (torch.from_numpy(x[kept]) for x in (whole.mean, whole.variance))
        restored = functools.partial(_restored, mean=mean, variance=variance)
        hooks.append(conv.register_forward_hook(restored))
    model(model.normalise(images))
    for hook in hooks:
        hook.remove()


def _restored(
    conv: nn.Conv2d, _inputs: object, sums: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """The sums with these moments; the convolution computes such ones from now on."""
    mean, variance = mean.to(sums), variance.to(sums)
    present, old_mean = torch.var_mean(sums, dim=(0, 2, 3), correction=0)
    ratio = torch.where(present > 0, variance / present, 1)  # else nothing is left to be spread
    factor = ratio.sqrt().clamp(1 / _LIMIT, _LIMIT)
    shift = mean - factor * old_mean
    assert conv.bias is not None
    conv.weight.mul_(factor[:, None, None, None])
    conv.bias.mul_(factor).add_(shift)
    return sums.mul_(factor[:, None, None]).add_(shift[:, None, None])
