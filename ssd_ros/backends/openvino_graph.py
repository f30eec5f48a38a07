# SPDX-License-Identifier: Apache-2.0
"""The network as an OpenVINO model, built directly from weights: no PyTorch, no conversion.

Layer by layer the same network as `ssd_ros.model.ssd`; every convolution has the name that it has
in weights files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from openvino import Model, Node, Output, Type
from openvino import opset13 as ops

from ssd_ros.model.layers import heads, network
from ssd_ros.model.steps import Add, Conv, Norm, Pool, Step, walk
from ssd_ros.weights.quantisation import LEVELS, input_range, round_weights, with_exact_zero
from ssd_ros.weights.weights import Weights


def build(weights: Weights, weight_bits: int | None = None) -> Model:
    """The network, from one 8-bit image to logits and offsets.

    Args:
        weights: the network.
        weight_bits: None for floating point; 8, or 7 (see `openvino.weight_bits`), for the 8-bit
            integers of `weights.quantisation`.

    Returns:
        a model with the input `image`, uint8 RGB (1, S, S, 3), and the outputs `logits`
        (1, N, 1 + C) and `offsets` (1, N, 4), float32.
    """
    graph = _Network(weights, weight_bits)
    size = weights.config.input_size
    image = ops.parameter([1, size, size, 3], Type.u8, name="image")
    maps = walk(network(weights.config), graph.normalise(image), graph.compute)
    outputs = []
    for name, values in (("logits", len(weights.classes) + 1), ("offsets", 4)):
        head = "scores" if name == "logits" else name  # the heads' name in weights files
        per_map = [graph.head(f"{head}.{k}", x, values) for k, x in enumerate(maps)]
        outputs.append(ops.result(ops.concat(per_map, axis=1), name=name))
        outputs[-1].output(0).set_names({name})
    return Model(outputs, [image], "ssd")


class _Activation(NamedTuple):
    """What a layer computes: in floating point, and rounded to the levels of its range.

    The layers that use it take one of the two; an unused one is not part of the model.
    """

    exact: Node
    rounded: Node


class _Network:
    """The parts of the network, with their constants."""

    def __init__(self, weights: Weights, weight_bits: int | None) -> None:
        self._config = weights.config
        self._tensors = weights.tensors
        self._bits = weight_bits
        self._quantisation = None if weight_bits is None else weights.quantisation
        self._heads = {conv.name: conv for conv in heads(weights.config, len(weights.classes))}

    def _tensor(self, name: str) -> np.ndarray:
        return np.asarray(self._tensors[name], np.float32)

    def normalise(self, image: Node) -> _Activation:
        """The float input (1, 3, S, S) of an 8-bit image (1, S, S, 3)."""
        mean = np.array(self._config.mean, np.float32) * 255
        scale = 1 / (np.array(self._config.std, np.float32) * 255)
        x = ops.transpose(ops.convert(image, Type.f32), [0, 3, 1, 2])
        x = ops.subtract(x, ops.constant(mean.reshape(1, 3, 1, 1)))
        x = ops.multiply(x, ops.constant(scale.reshape(1, 3, 1, 1)))
        low, high = (bound.reshape(1, 3, 1, 1) for bound in input_range(self._config))
        return self._round(x, x, (low, high))

    def compute(self, step: Step, x: _Activation, *others: _Activation) -> _Activation:
        """The result of one step from the results that it reads."""
        bounds = self._range(step.name)
        if isinstance(step, Pool):
            return _Activation(*(_max_pool(y, step) for y in x))
        if isinstance(step, Norm):
            exact, nearly = (self._l2_norm(step.name, y) for y in x)
            return self._round(exact, nearly, bounds)
        if isinstance(step, Add):
            sums = (ops.add(a, b) for a, b in zip(x, others[0], strict=True))
            exact, nearly = (ops.relu(y, name=step.name) for y in sums)
            return self._round(exact, nearly, bounds)
        assert isinstance(step, Conv)
        y = self._convolution(x, step)
        y = ops.relu(y, name=step.name) if step.relu else y
        return self._round(y, y, bounds)

    def head(self, name: str, x: _Activation, values: int) -> Node:
        """One head's outputs (1, boxes, values)."""
        y = self._convolution(x, self._heads[name])
        return ops.reshape(ops.transpose(y, [0, 2, 3, 1]), [1, -1, values], False)

    def _convolution(self, x: _Activation, conv: Conv) -> Node:
        kernel = self._tensor(f"{conv.name}.weight")
        quantised = self._is_quantised(conv.name)
        y = ops.convolution(
            x.rounded if quantised else x.exact,
            # A bare array would be converted ten times more slowly.
            self._rounded_kernel(kernel) if quantised else ops.constant(kernel),
            [conv.stride] * 2,
            [conv.padding] * 2,
            [conv.padding] * 2,
            [conv.dilation] * 2,
            name=f"{conv.name}.conv",
        )
        bias = self._tensor(f"{conv.name}.bias")
        return ops.add(y, ops.constant(bias.reshape(1, -1, 1, 1)))

    def _is_quantised(self, conv: str) -> bool:
        return self._quantisation is not None and conv not in self._quantisation.kept

    def _range(self, name: str) -> tuple[float, float] | None:
        """The range of a result; None where no convolution reads it, so that it has none."""
        return None if self._quantisation is None else self._quantisation.ranges.get(name)

    def _round(
        self, exact: Node, nearly: Node, bounds: tuple[ArrayLike, ArrayLike] | None
    ) -> _Activation:
        """An activation of which a second version, computed from rounded ones, is rounded."""
        if self._quantisation is None:
            return _Activation(exact, exact)
        if bounds is None:
            return _Activation(exact, nearly)
        low, high = (bound.astype(np.float32) for bound in with_exact_zero(*bounds))
        return _Activation(exact, ops.fake_quantize(nearly, low, high, low, high, LEVELS))

    def _rounded_kernel(self, kernel: np.ndarray) -> Node:
        """Integers times a scale, which OpenVINO moves behind the convolution."""
        assert self._bits is not None
        integers, scale = round_weights(kernel, self._bits)
        return ops.multiply(ops.convert(ops.constant(integers), Type.f32), ops.constant(scale))

    def _l2_norm(self, name: str, x: Node) -> Node:
        unit = ops.normalize_l2(x, [1], eps=1e-24, eps_mode="max")
        scale = self._tensor(f"{name}.scale").reshape(1, -1, 1, 1)
        return ops.multiply(unit, ops.constant(scale), name=name)


def _max_pool(x: Node, pool: Pool) -> Output:
    pads, rounding = [pool.padding] * 2, "ceil" if pool.round_up else "floor"
    pooled = ops.max_pool(x, [pool.stride] * 2, [1, 1], pads, pads, [pool.kernel] * 2, rounding)
    return pooled.output(0)  # the second output has the positions of the maxima
