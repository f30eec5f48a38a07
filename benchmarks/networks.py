# SPDX-License-Identifier: Apache-2.0
"""Networks for benchmarks: random weights whose scores are spread as a trained detector's.

With plain random weights every default box is a candidate or none is, so that the post-processing
takes a time that no user sees. Here the weights of the heads for scores are scaled, and the bias of
the background is raised, until for the benchmarks' image about CANDIDATES pairs of box and class
have a score above 0.01 and SURE of them a score above 0.5.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from images import SIZE, image_of
from measuring import ROOT
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.ssd import SSD as TorchvisionSSD

from ssd_ros.detections import Thresholds
from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.model import class_names
from ssd_ros.model.config import TORCHVISION
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import native, reader
from ssd_ros.weights.weights import Weights

sys.path.append(str(ROOT))  # training/ is not installed
CANDIDATES, SURE = 400, 40
CLASSES = {91: class_names.COCO, 21: class_names.VOC}  # by outputs, background included


def torchvision_network(outputs: int, thresholds: Thresholds) -> TorchvisionSSD:
    """torchvision's ssd300_vgg16 with so many outputs a box, 91 or 21."""
    torch.manual_seed(0)
    network = ssd300_vgg16(
        weights=None,
        weights_backbone=None,
        num_classes=outputs,
        score_thresh=thresholds.score_threshold,
        nms_thresh=thresholds.nms_iou_threshold,
        detections_per_img=thresholds.max_detections,
        topk_candidates=thresholds.top_k,
    ).eval()
    with torch.inference_mode():
        rgb = np.ascontiguousarray(image_of(SIZE)[..., ::-1])
        batch, _ = network.transform([torch.from_numpy(rgb).permute(2, 0, 1) / 255])
        maps = list(network.backbone(batch.tensors).values())
    spread_scores(list(network.head.classification_head.module_list), maps, outputs)
    return network


def converted(network: TorchvisionSSD) -> Weights:
    """The same weights for ssd_ros, by way of a file as a user has it."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder, "theirs.pth"))
        return reader.read(Path(folder, "theirs.pth"))


def weights_of_width(width: float, outputs: int = 21) -> Weights:
    """torchvision's network with other channels."""
    torch.manual_seed(0)
    classes = CLASSES[outputs]
    model = SSD(len(classes), width, TORCHVISION).eval()
    with torch.inference_mode():
        images = torch.from_numpy(network_input([Image(image_of(SIZE))]))
        maps = model.features(model.normalise(images))
    spread_scores(list(model.scores), maps, outputs)  # type: ignore[arg-type]
    return Weights(model.state_dict(), tuple(classes), model.config)


def quantised(weights: Weights) -> Weights:
    """The same with ranges for int8, measured on the benchmarks' image alone."""
    from training.quantisation import ranges  # NNCF takes seconds to import

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "image.png")
        cv2.imwrite(str(file), image_of(SIZE))
        return replace(weights, quantisation=ranges.measure(weights, [file]))


def write_weights(folder: Path, width: float, int8: bool = False) -> Path:
    """A weights file with 20 classes, as a node reads it."""
    path = folder / f"width-{width:g}{'-int8' if int8 else ''}.safetensors"
    weights = weights_of_width(width)
    native.write(path, quantised(weights) if int8 else weights)
    return path


@torch.no_grad()
def spread_scores(heads: Sequence[nn.Conv2d], maps: Sequence[Tensor], outputs: int) -> None:
    """Changes the heads' weights and biases as the module says.

    Args:
        heads: one a feature map, with biases of zero.
        maps: feature maps (1, C, H, W) of the image.
        outputs: logits of a box, the background's first.
    """
    logits = [head(x).permute(0, 2, 3, 1).reshape(-1, outputs) for head, x in zip(heads, maps)]  # noqa: B905
    factors = [1 / float(values.std()) for values in logits]
    alike = torch.cat([factor * values for factor, values in zip(factors, logits, strict=True)])

    def bias_for(scale: float) -> float:
        return _bisect(lambda bias: _count(alike, scale, bias, 0.01) < CANDIDATES, -5.0, 60.0)

    scale = _bisect(lambda s: _count(alike, s, bias_for(s), 0.5) > SURE, 0.5, 10.0)
    bias = bias_for(scale)
    for head, factor in zip(heads, factors, strict=True):
        assert head.bias is not None
        head.weight *= scale * factor
        head.bias[::outputs] = bias


def _count(logits: Tensor, scale: float, bias: float, threshold: float) -> int:
    """Pairs of box and class with a score above the threshold."""
    changed = scale * logits
    changed[:, 0] += bias
    return int((changed.softmax(dim=1)[:, 1:] > threshold).sum())


def _bisect(above: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that is false for low values and true for high ones changes."""
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return (low + high) / 2
