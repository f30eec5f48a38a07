# SPDX-License-Identifier: Apache-2.0
"""The network as an OpenVINO model, built directly from weights: no PyTorch, no conversion.

Layer by layer the same network as `ssd_ros.model.ssd`; every convolution has the name that it has
in weights files.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
from openvino import Model, Node, Output, Type
from openvino import opset13 as ops

from ssd_ros.model.layers import Conv, convolutions
from ssd_ros.weights.weights import Weights


def build(weights: Weights) -> Model:
    """The network, from one 8-bit image to logits and offsets.

    Returns:
        a model with the input `image`, uint8 RGB (1, S, S, 3), and the outputs `logits`
        (1, N, 1 + C) and `offsets` (1, N, 4), float32.
    """
    network = _Network(weights)
    size = weights.config.input_size
    image = ops.parameter([1, size, size, 3], Type.u8, name="image")
    maps = network.feature_maps(network.normalise(image))
    outputs = []
    for name, values in (("logits", len(weights.classes) + 1), ("offsets", 4)):
        head = "scores" if name == "logits" else name  # the heads' name in weights files
        per_map = [network.head(f"{head}.{k}", x, values) for k, x in enumerate(maps)]
        outputs.append(ops.result(ops.concat(per_map, axis=1), name=name))
        outputs[-1].output(0).set_names({name})
    return Model(outputs, [image], "ssd")


# After which stages VGG16 pools: kernel, stride, padding, rounding of the result's size.
_POOLING = {
    "conv1": (2, 2, 0, "floor"),
    "conv2": (2, 2, 0, "floor"),
    "conv3": (2, 2, 0, "ceil"),  # 75 -> 38
    "conv4": (2, 2, 0, "floor"),
    "conv5": (3, 1, 1, "floor"),
}


class _Network:
    """The parts of the network, with their constants."""

    def __init__(self, weights: Weights) -> None:
        self._config = weights.config
        self._tensors = weights.tensors

    def _constant(self, name: str, shape: tuple[int, ...] | None = None) -> Node:
        array = np.asarray(self._tensors[name], np.float32)
        return ops.constant(array if shape is None else array.reshape(shape))

    def normalise(self, image: Node) -> Node:
        """The float input (1, 3, S, S) of an 8-bit image (1, S, S, 3)."""
        mean = np.array(self._config.mean, np.float32) * 255
        scale = 1 / (np.array(self._config.std, np.float32) * 255)
        x = ops.transpose(ops.convert(image, Type.f32), [0, 3, 1, 2])
        x = ops.subtract(x, ops.constant(mean.reshape(1, 3, 1, 1)))
        return ops.multiply(x, ops.constant(scale.reshape(1, 3, 1, 1)))

    def feature_maps(self, x: Node) -> list[Node]:
        """The maps of the normalised input, finest first."""
        maps = []
        for stage, convs in groupby(convolutions(self._config), key=lambda conv: conv.stage):
            for conv in convs:
                x = ops.relu(self._convolution(conv.name, x, conv), name=conv.name)
            if stage == "conv4":
                maps.append(self._l2_norm(x))
            elif stage == "conv7" or int(stage.removeprefix("conv")) > 7:
                maps.append(x)
            if stage in _POOLING:
                x = _max_pool(x, *_POOLING[stage])
        return maps

    def head(self, name: str, x: Node, values: int) -> Node:
        """One head's outputs (1, boxes, values)."""
        inputs, outputs = x.shape[1], np.shape(self._tensors[f"{name}.bias"])[0]
        y = self._convolution(name, x, Conv(name, inputs, outputs, 3, padding=1))
        return ops.reshape(ops.transpose(y, [0, 2, 3, 1]), [1, -1, values], False)

    def _convolution(self, name: str, x: Node, conv: Conv) -> Node:
        pads = [conv.padding] * 2
        y = ops.convolution(
            x,
            self._constant(f"{name}.weight"),
            [conv.stride] * 2,
            pads,
            pads,
            [conv.dilation] * 2,
        )
        return ops.add(y, self._constant(f"{name}.bias", (1, conv.outputs, 1, 1)))

    def _l2_norm(self, x: Node) -> Node:
        unit = ops.normalize_l2(x, [1], eps=1e-24, eps_mode="max")
        return ops.multiply(unit, self._constant("norm4.scale", (1, -1, 1, 1)))


def _max_pool(x: Node, kernel: int, stride: int, padding: int, rounding: str) -> Output:
    pooled = ops.max_pool(
        x, [stride] * 2, [1, 1], [padding] * 2, [padding] * 2, [kernel] * 2, rounding
    )
    return pooled.output(0)  # the second output has the positions of the maxima
