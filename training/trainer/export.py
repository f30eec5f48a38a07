# SPDX-License-Identifier: Apache-2.0
"""Trained weights in the form that the detector loads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from ssd_ros.model.ssd import SSD
from ssd_ros.weights.weights import Weights
from training.trainer import batch_norm
from training.trainer.options import Options
from training.trainer.progress import Progress


def to_weights(
    ema: AveragedModel,
    classes: tuple[str, ...],
    provenance: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> Weights:
    """The averaged network as weights on the CPU, with batch normalisation folded.

    Args:
        ema: average of an SSD, see `create_ema`.
        classes: class names.
        provenance: where the weights come from; it becomes `Weights.training`.
        dtype: of the tensors.
    """
    model = ema.module
    assert isinstance(model, SSD)
    tensors = {
        key: tensor.detach().to("cpu", dtype)
        for key, tensor in batch_norm.fold(model.state_dict()).items()
    }
    return Weights(tensors, classes, model.config, provenance)


def provenance(
    run: Options,
    progress: Progress,
    processes: int,
    result: Mapping[str, Any] | None,
    ancestry: Mapping[str, Any],
) -> dict[str, Any]:
    """What a weights file records about its training.

    Args:
        run: options of the run.
        progress: of the run.
        processes: their number.
        result: of the validation of these weights, see `compute_metrics`; None without one.
        ancestry: what is known of the weights that it began with; empty where they were random.
    """
    note: dict[str, Any] = {
        "data": Path(run.data).resolve().name.encode("utf-8", "replace").decode(),
        "sets": run.sets,
        "val_sets": run.val_sets,
        "iterations": progress.iteration,
        "batch": run.batch * processes,
        "minutes": round(progress.seconds / 60, 1),
        "seed": run.seed,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    if result:
        note |= {key: result[key] for key in ("map_voc2007", "map")}
    if ancestry:
        note["init"] = dict(ancestry)
    return note
