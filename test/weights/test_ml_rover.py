# SPDX-License-Identifier: Apache-2.0
"""ml-rover's checkpoints give the results of ml-rover's definition; others are refused by name."""

import numpy as np
import pytest
import torch
from made_ml_rover import default_boxes, evaluate, state_dict

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.model import class_names
from ssd_ros.model.box_coding import decode
from ssd_ros.model.default_boxes import default_boxes as our_default_boxes
from ssd_ros.weights import resnet50
from ssd_ros.weights.layouts import ml_rover
from ssd_ros.weights.reader import read


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return state_dict()


@pytest.fixture
def file(state, tmp_path):
    return save(state, tmp_path)


def save(state, folder):
    path = folder / "ssd_weights.pth"
    torch.save(state, path)
    return path


def test_scores_and_boxes_are_those_of_its_definition(state, file):
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (20, 20, 3), np.uint8).repeat(15, 0).repeat(15, 1)
    image = (coarse // 2 + rng.integers(0, 128, coarse.shape, np.uint8))[None]
    expected_scores, expected_boxes = evaluate(state, torch.from_numpy(image[0]))
    assert expected_scores.max() > 0.5
    weights = read(file)
    assert weights.classes == tuple(class_names.VOC)
    assert weights.config.box_count == 11_658
    defaults = torch.from_numpy(our_default_boxes(weights.config))
    for engine in ("openvino", "pytorch"):
        outputs = create(weights, BackendOptions(engine, "cpu", "fp32")).infer(image)
        logits, offsets = (torch.as_tensor(output)[0] for output in outputs)
        scores = logits.softmax(dim=1)[:, 1:]
        torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-4)
        boxes = 300 * decode(offsets, defaults)
        torch.testing.assert_close(boxes, 300 * expected_boxes.float(), rtol=0, atol=0.1)


def test_default_boxes_are_cut_to_the_image_as_there():
    centres, sizes = np.split(our_default_boxes(ml_rover.CONFIG), 2, axis=1)
    corners = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
    np.testing.assert_allclose(corners, default_boxes()[1].numpy(), rtol=0, atol=1e-6)


def without(key):
    return lambda state: {k: v for k, v in state.items() if k != key}


def with_tensor(key, tensor):
    return lambda state: {**state, key: tensor}


def moved(state):
    return {**state, "default_boxes_xyxy": state["default_boxes_xyxy"] + 0.01}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("stage3.5.bn2.running_var"), "lacks tensor 'stage3.5.bn2.running_var'"),
        (without("default_boxes_xyxy"), "lacks tensor 'default_boxes_xyxy'"),
        (with_tensor("stage3.6.conv1.weight", torch.zeros(3)), "holds tensor 'stage3.6.conv1.we"),
        (
            with_tensor("loc_layers.2.weight", torch.zeros(16, 2048, 3, 3)),
            r"'loc_layers.2.weight' has shape \(16, 2048, 3, 3\), expected \(24, 2048, 3, 3\)",
        ),
    ],
)
def test_a_near_miss_is_refused_with_the_family_and_what_differs(state, change, message, tmp_path):
    with pytest.raises(ValueError, match=f"looks like ml-rover's SSD300 with ResNet-50.*{message}"):
        read(save(change(state), tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moved, "'default_boxes_xyxy' differs by 0.01 from the default boxes of ml-rover"),
        (
            with_tensor("stage2.0.bn1.running_var", torch.full((128,), -1.0)),
            "'stage2.0.bn1.running_var' holds negative values",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_refused(state, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(save(change(state), tmp_path))


def test_other_classes_need_names(tmp_path):
    file = save(state_dict(outputs=3), tmp_path)
    with pytest.raises(ValueError, match="has 2 classes but no class names"):
        read(file)
    assert read(file, ["cup", "cat"]).classes == ("cup", "cat")


def test_the_folded_kernel_has_the_type_of_the_file(state):
    name = resnet50.names(ml_rover.CONFIG, ("stage1.0", "stage1.1"), ["a", "b", "c", "d"])[
        "conv1.1"
    ]
    tensors = {key: value.numpy() for key, value in state.items()}
    tensors["stage1.0.weight"] = tensors["stage1.0.weight"].astype(np.float16)
    kernel, bias = resnet50.fold(tensors, name)
    assert kernel.dtype == bias.dtype == np.float16
