# SPDX-License-Identifier: Apache-2.0
"""Exports weights to ONNX, for other engines: python -m training.export WEIGHTS."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.layers import heads, network
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.model.steps import Add, Conv, Norm, Pool, Step, walk
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights

OPSET = 17  # the last one in which ReduceL2 has its axes as an attribute, as old parsers expect
IR_VERSION = 8
TOLERANCE = 1e-4


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Exports the network to ONNX: input 'image', float32 (1, 3, S, S), RGB from 0 "
        "to 255; outputs 'logits' (1, N, 1 + C), background first, and 'offsets' (1, N, 4). The "
        "model's metadata hold class names, default boxes (N, 4) and variances. It is compared "
        "with the OpenVINO backend before the file is written. See docs/export.md.",
    )
    parser.add_argument("weights", type=Path, help="weights file, or demo")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: WEIGHTS with .onnx)"
    )
    options = parser.parse_args(arguments)
    target = options.out or options.weights.with_suffix(".onnx")
    try:
        weights = read(options.weights)
        model = build(weights)
        atomic.write(target, model.SerializeToString(), functools.partial(check, weights))
    except (ValueError, OSError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {target}: {target.stat().st_size / 1e6:.1f} MB, {len(weights.classes)} classes")
    return 0


def build(weights: Weights) -> onnx.ModelProto:
    """The network in float32; quantisation is left to the engine's own tools."""
    graph, config = _Graph(weights), weights.config
    maps = walk(network(config), graph.normalise("image"), graph.compute)
    convs = heads(config, len(weights.classes))
    outputs = []
    shapes = {"logits": len(weights.classes) + 1, "offsets": 4}
    for name, values in shapes.items():
        prefix = "scores" if name == "logits" else name  # the heads' name in weights files
        per_map = [
            graph.head(conv, maps[int(conv.name.split(".")[1])], values)
            for conv in convs
            if conv.name.startswith(prefix)
        ]
        graph.add("Concat", per_map, name, axis=1)
        shape = [1, config.box_count, values]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    shape = [1, 3, config.input_size, config.input_size]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    model = helper.make_model(
        helper.make_graph(graph.nodes, "ssd", [image], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ssd_ros",
    )
    helper.set_model_props(model, metadata(weights))
    onnx.checker.check_model(model)
    return model


def metadata(weights: Weights) -> dict[str, str]:
    """What is needed to decode the outputs, as JSON texts."""
    values = {
        "classes": weights.classes,
        "default_boxes": [
            [round(float(x), 7) for x in box] for box in default_boxes(weights.config)
        ],
        "variances": weights.config.variances,
        "config": asdict(weights.config),
        "training": dict(weights.training),
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


class _Graph:
    """Nodes and constants; a node's name is that of its output."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        array = np.asarray(self._weights.tensors[name], np.float32)
        return self.constant(name, array if shape is None else array.reshape(shape))

    def normalise(self, image: str) -> str:
        config, shape = self._weights.config, (1, 3, 1, 1)
        mean = self.constant("mean", 255 * np.array(config.mean, np.float32).reshape(shape))
        std = self.constant("std", 255 * np.array(config.std, np.float32).reshape(shape))
        return self.add("Div", [self.add("Sub", [image, mean], "centred"), std], "normalised")

    def compute(self, step: Step, x: str, *others: str) -> str:
        """The result of one step from the results that it reads, by the names of the nodes."""
        if isinstance(step, Pool):
            return self.max_pool(step, x)
        if isinstance(step, Norm):
            return self.l2_norm(step.name, x)
        if isinstance(step, Add):
            total = self.add("Add", [x, *others], f"{step.name}.sum")
            return self.add("Relu", [total], f"{step.name}.relu")
        assert isinstance(step, Conv)
        x = self.convolution(step, x)
        return self.add("Relu", [x], f"{step.name}.relu") if step.relu else x

    def max_pool(self, pool: Pool, x: str) -> str:
        sides = {"kernel_shape": [pool.kernel] * 2, "strides": [pool.stride] * 2}
        pads = {"pads": [pool.padding] * 4, "ceil_mode": int(pool.round_up)}
        return self.add("MaxPool", [x], pool.name, **sides, **pads)

    def l2_norm(self, name: str, x: str) -> str:
        """From basic operations: few engines have LpNormalization."""
        length = self.add("ReduceL2", [x], f"{name}.length", axes=[1], keepdims=1)
        smallest = self.constant(f"{name}.smallest", np.array(1e-12, np.float32))
        length = self.add("Max", [length, smallest], f"{name}.divisor")
        unit = self.add("Div", [x, length], f"{name}.unit")
        return self.add("Mul", [unit, self.tensor(f"{name}.scale", (1, -1, 1, 1))], name)

    def head(self, conv: Conv, x: str, values: int) -> str:
        y = self.convolution(conv, x)
        y = self.add("Transpose", [y], f"{conv.name}.transposed", perm=[0, 2, 3, 1])
        shape = self.constant(f"{conv.name}.shape", np.array([1, -1, values], np.int64))
        return self.add("Reshape", [y, shape], f"{conv.name}.boxes")

    def convolution(self, conv: Conv, x: str) -> str:
        kernel, bias = self.tensor(f"{conv.name}.weight"), self.tensor(f"{conv.name}.bias")
        return self.add(
            "Conv",
            [x, kernel, bias],
            f"{conv.name}.conv",
            kernel_shape=[conv.kernel] * 2,
            strides=[conv.stride] * 2,
            pads=[conv.padding] * 4,
            dilations=[conv.dilation] * 2,
        )


def check(weights: Weights, file: Path) -> None:
    """Runs a file with ONNX Runtime and compares the outputs with those of the OpenVINO backend.

    Raises:
        ValueError: they differ by more than TOLERANCE, relative for values above 1.
    """
    size = weights.config.input_size
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    expected = create(weights, BackendOptions("openvino", "cpu", "fp32")).infer(image)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = image.transpose(0, 3, 1, 2).astype(np.float32)
    outputs = session.run(["logits", "offsets"], {"image": pixels})
    for name, ours, theirs in zip(("logits", "offsets"), expected, outputs, strict=True):
        difference = np.abs(np.asarray(ours) - theirs) / np.maximum(1, np.abs(theirs))
        if not difference.max() <= TOLERANCE:  # also for NaN
            raise ValueError(
                f"{name} of the ONNX model differ by {difference.max():.2g} from those of the "
                f"OpenVINO backend, expected at most {TOLERANCE:g}; nothing is written"
            )


if __name__ == "__main__":
    sys.exit(main())
