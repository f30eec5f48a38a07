# SPDX-License-Identifier: Apache-2.0
"""The native weights file: one `.safetensors` with all that is needed to run the network.

Its tensors are SSD300's state dict; its metadata hold the format's version, class names, default
boxes, normalisation, channel width and where the weights come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from ssd_ros import atomic
from ssd_ros.model.config import SSDConfig
from ssd_ros.weights.weights import Weights, WeightsError, check_class_names

FORMAT = "ssd_ros/1"


def from_native(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> Weights:
    """Weights from a native file's tensors and metadata.

    Raises:
        WeightsError: the format is unknown, or metadata are missing or unusable.
    """
    if metadata["format"] != FORMAT:
        raise WeightsError(f"has format '{metadata['format']}', expected '{FORMAT}'")
    values: dict[str, Any] = {}
    for key in ("classes", "width", "default_boxes", "mean", "std", "training"):
        if key not in metadata:
            raise WeightsError(f"has no metadata '{key}'")
        try:
            values[key] = json.loads(metadata[key])
        except ValueError:
            raise WeightsError(f"metadata '{key}' is not JSON: {metadata[key]!r:.80}") from None
    try:
        boxes = values["default_boxes"]
        config = SSDConfig(
            scales=_numbers(boxes["scales"]),
            aspect_ratios=tuple(map(_numbers, boxes["aspect_ratios"])),
            steps=_numbers(boxes["steps"]),
            clip=bool(boxes["clip"]),
            mean=_numbers(values["mean"]),
            std=_numbers(values["std"]),
        )
        width = float(values["width"])
        training = dict(values["training"])
    except KeyError as error:
        raise WeightsError(f"metadata 'default_boxes' has no {error}") from None
    except (TypeError, ValueError) as error:
        raise WeightsError(f"has unusable metadata: {error}") from None
    if not (math.isfinite(width) and 0 < width <= 4):
        raise WeightsError(f"metadata 'width' is {width}, expected above 0 and at most 4")
    return Weights(tensors, check_class_names(values["classes"]), config, width, training)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def write(path: str | Path, weights: Weights) -> None:
    """Writes a native file; an existing one is replaced only when the new one is whole."""
    config = weights.config
    boxes = {
        "scales": config.scales,
        "aspect_ratios": config.aspect_ratios,
        "steps": config.steps,
        "clip": config.clip,
    }
    metadata = {
        "format": FORMAT,
        "classes": json.dumps(weights.classes, ensure_ascii=False),
        "width": json.dumps(weights.width),
        "default_boxes": json.dumps(boxes),
        "mean": json.dumps(config.mean),
        "std": json.dumps(config.std),
        "training": json.dumps(dict(weights.training), ensure_ascii=False),
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.tensors.items()}
    atomic.write(Path(path), safetensors.torch.save(tensors, metadata))
