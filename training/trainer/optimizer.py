# SPDX-License-Identifier: Apache-2.0
"""The optimiser, its learning-rate schedule, and the data type of the computation."""

from __future__ import annotations

import math

import torch
from torch import nn

from ssd_ros.model.ssd import SSD
from training.trainer.options import Options


def create_optimizer(model: SSD, run: Options) -> torch.optim.Optimizer:
    """SGD or AdamW; no decay on vectors, and `base_lr` for the backbone (conv1 to conv5).

    Each parameter group has the key `factor`, the multiplier of its learning rate.

    Raises:
        ValueError: no parameter is left to train.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            backbone = name.split(".")[0] in ("conv1", "conv2", "conv3", "conv4", "conv5")
            groups.setdefault((backbone, parameter.ndim > 1), []).append(parameter)
    parameters = [
        {
            "params": group,
            "factor": run.base_lr if backbone else 1.0,
            "weight_decay": run.weight_decay if kernels else 0.0,
        }
        for (backbone, kernels), group in groups.items()
    ]
    if not parameters:
        raise ValueError("--freeze leaves nothing to train")
    if run.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=run.lr, momentum=0.9)
    return torch.optim.AdamW(parameters, lr=run.lr)


def lr_factor(iteration: int, run: Options) -> float:
    """Multiplier of the learning rate at an iteration, 0 to 1: warm-up, then the schedule."""
    warmup = min(run.warmup, run.iterations // 8)
    if iteration < warmup:
        return (iteration + 1) / warmup
    share = (iteration - warmup) / max(1, run.iterations - warmup)
    if run.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    done = iteration / run.iterations
    return 0.01 if done >= 5 / 6 else 0.1 if done >= 2 / 3 else 1.0


def choose_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware supports it, fp16 on other CUDA devices, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
