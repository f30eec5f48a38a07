# SPDX-License-Identifier: Apache-2.0
"""The ONNX model computes what the backends do, and says how to decode it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssd_ros.model.config import PAPER_VOC, RESNET50, SSDConfig
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights

onnx = pytest.importorskip("onnx", reason="needs requirements-training.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-training.txt")

from training import export  # noqa: E402


def made_weights(base: SSDConfig = PAPER_VOC, **changes) -> Weights:
    torch.manual_seed(0)
    config = replace(base.with_width(0.0625), **changes)
    model = SSD(2, config=config)
    return Weights(model.state_dict(), ("cup", "kátya"), config, {"iterations": 3})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"base": RESNET50},
        {"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 1.0), "variances": (0.3, 0.4)},
    ],
)
def test_the_file_computes_what_pytorch_does(changes, tmp_path, capsys):
    weights = made_weights(**changes)
    write(tmp_path / "w.safetensors", weights)
    assert export.main([str(tmp_path / "w.safetensors")]) == 0
    file = tmp_path / "w.onnx"
    assert f"wrote {file}" in capsys.readouterr().out

    image = np.random.default_rng(1).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(file))
    pixels = image.transpose(0, 3, 1, 2).astype(np.float32)
    logits, offsets = session.run(["logits", "offsets"], {"image": pixels})
    model = weights.model()
    with torch.inference_mode():
        expected = model(model.normalise(torch.from_numpy(image)))
    for ours, theirs in zip((logits, offsets), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)

    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["cup", "kátya"]
    boxes = np.array(json.loads(told["default_boxes"]), np.float32)
    np.testing.assert_allclose(boxes, default_boxes(weights.config), atol=1e-6)
    assert tuple(json.loads(told["variances"])) == weights.config.variances


def test_a_model_that_computes_something_else_is_not_written(tmp_path, monkeypatch, capsys):
    write(tmp_path / "w.safetensors", made_weights())
    other = export.build(made_weights(mean=(0.4, 0.4, 0.4)))
    monkeypatch.setattr(export, "build", lambda weights: other)
    assert export.main([str(tmp_path / "w.safetensors")]) == 1
    assert "logits of the ONNX model differ by" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_missing_weights_are_an_error_of_one_line(tmp_path, capsys):
    assert export.main([str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err
