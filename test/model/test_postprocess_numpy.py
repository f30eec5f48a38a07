# SPDX-License-Identifier: Apache-2.0
"""The CPU's post-processing finds what PyTorch's and torchvision's find."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.ssd import SSD

from ssd_ros.detections import Thresholds
from ssd_ros.model import postprocess
from ssd_ros.model.box_coding import decode
from ssd_ros.model.config import PAPER_VOC, TORCHVISION
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.postprocess_numpy import Postprocessor
from ssd_ros.model.postprocess_numpy import decode as decode_arrays

# Two coarse maps: few boxes, and many of them overlap.
SMALL = replace(PAPER_VOC, feature_maps=PAPER_VOC.feature_maps[2:5])


def made_outputs(
    seed: int, batch: int, classes: int, spread: float, background: float, config=SMALL
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, spread, (batch, config.box_count, 1 + classes))
    logits[..., 0] += background
    offsets = generator.normal(0, 1, (batch, config.box_count, 4))
    return logits.astype(np.float32), offsets.astype(np.float32)


def by_pytorch(outputs, config, thresholds, mask=None) -> np.ndarray:
    reference = postprocess.Postprocessor(config, thresholds, mask)
    return reference(*map(torch.from_numpy, outputs))


def assert_same_rows(rows: np.ndarray, expected: np.ndarray) -> None:
    """Labels equal, scores within 1e-5, boxes within 1e-3 px, by image and descending score.

    Scores that differ in their last digit alone may change places across classes.
    """
    assert (rows.dtype, rows.shape) == (np.float32, expected.shape)
    np.testing.assert_array_equal(rows[:, 0], expected[:, 0])
    np.testing.assert_allclose(rows[:, 2], expected[:, 2], rtol=0, atol=1e-5)
    rows, expected = (x[np.lexsort((-x[:, 2], x[:, 1], x[:, 0]))] for x in (rows, expected))
    np.testing.assert_array_equal(rows[:, 1], expected[:, 1])
    np.testing.assert_allclose(rows[:, 2], expected[:, 2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(300 * rows[:, 3:], 300 * expected[:, 3:], rtol=0, atol=1e-3)


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 4),
    classes=st.sampled_from([1, 2, 20]),
    spread=st.sampled_from([0.5, 2.0, 6.0]),
    background=st.sampled_from([0.0, 4.0, 8.0]),
    score=st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9, 1.0]),
    overlap=st.sampled_from([0.0, 0.203, 0.451, 0.807, 1.0]),
    top_k=st.sampled_from([1, 7, 50, 400]),
    most=st.sampled_from([1, 5, 200, 10_000]),
    masked=st.booleans(),
    nms=st.sampled_from(["after_clipping", "before_clipping"]),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_detections_are_those_of_pytorch(
    seed, batch, classes, spread, background, score, overlap, top_k, most, masked, nms
):
    config = replace(SMALL, nms=nms)
    outputs = made_outputs(seed, batch, classes, spread, background)
    thresholds = Thresholds(score, overlap, most, top_k)
    mask = np.random.default_rng(seed).random(classes) < 0.5 if masked else None
    rows = Postprocessor(config, thresholds, mask)(*outputs)
    assert_same_rows(rows, by_pytorch(outputs, config, thresholds, mask))


@given(seed=st.integers(0, 2**32 - 1), top_k=st.sampled_from([3, 50]), most=st.integers(1, 300))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_equal_scores_keep_the_order_of_the_default_boxes(seed, top_k, most):
    logits, offsets = made_outputs(seed, 2, 5, 2.0, 0.0)
    logits[:] = logits[:, np.arange(SMALL.box_count) % 7]  # seven rows again and again
    logits[..., 3] = logits[..., 2]
    thresholds = Thresholds(0.05, 0.451, most, top_k)
    rows = Postprocessor(SMALL, thresholds)(logits, offsets)
    assert_same_rows(rows, by_pytorch((logits, offsets), SMALL, thresholds))


@pytest.fixture(scope="module")
def theirs() -> SSD:
    # Only its post-processing runs, which takes the number of classes from the outputs.
    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=2, nms_thresh=0.45)


@pytest.mark.parametrize("score", [0.01, 0.5])
@pytest.mark.parametrize(("spread", "background"), [(1.0, 5.0), (3.0, 0.0)])
def test_detections_are_those_of_torchvision(theirs, score, spread, background):
    logits, offsets = made_outputs(5, 2, 90, spread, background, TORCHVISION)
    if background:  # as a trained detector's: some boxes in some places are of objects
        objects = np.random.default_rng(6).choice(TORCHVISION.box_count, 150)
        logits[:, objects, objects % 90 + 1] += 11
    theirs.score_thresh = score
    boxes = torch.from_numpy(default_boxes(TORCHVISION)) * 300
    anchors = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
    heads = {
        "cls_logits": torch.from_numpy(logits),
        "bbox_regression": torch.from_numpy(offsets),
    }
    expected = theirs.postprocess_detections(heads, [anchors] * 2, [(300, 300)] * 2)
    rows = Postprocessor(TORCHVISION, Thresholds(score, 0.45, 200, 400))(logits, offsets)
    for i, found in enumerate(expected):
        image = torch.full((len(found["labels"]), 1), i)
        columns = (image, found["labels"][:, None] - 1, found["scores"][:, None])
        table = torch.cat((*columns, found["boxes"] / 300), dim=1).float().numpy()
        assert len(table) > 20
        assert_same_rows(rows[rows[:, 0] == i], table)


def test_an_image_has_the_same_detections_anywhere_in_a_batch():
    logits, offsets = made_outputs(3, 4, 20, 2.0, 2.0)
    run = Postprocessor(SMALL, Thresholds(0.1))
    batch = run(logits, offsets)
    assert set(batch[:, 0]) == {0, 1, 2, 3}
    for i in range(4):
        alone = run(logits[i : i + 1], offsets[i : i + 1])
        np.testing.assert_array_equal(batch[batch[:, 0] == i][:, 1:], alone[:, 1:])


def test_extreme_logits_lose_no_detection_to_rounding():
    logits, offsets = made_outputs(1, 1, 3, 1.0, 0.0)
    logits += 20_000  # spaced by 0.002
    thresholds = Thresholds(0.25)
    rows = Postprocessor(SMALL, thresholds)(logits, offsets)
    assert_same_rows(rows, by_pytorch((logits, offsets), SMALL, thresholds))


def test_equal_outputs_everywhere_give_what_pytorch_gives():
    outputs = np.zeros((1, SMALL.box_count, 4), np.float32), np.zeros((1, SMALL.box_count, 4), "f4")
    for thresholds in (Thresholds(0.1, 0.451), Thresholds(0.1, 0.451, top_k=5), Thresholds(0.3)):
        rows = Postprocessor(SMALL, thresholds)(*outputs)
        assert_same_rows(rows, by_pytorch(outputs, SMALL, thresholds))


def test_a_chain_of_overlaps_is_resolved_from_the_best_on():
    # Each box overlaps its neighbours alone: every second one stays.
    count = 100
    logits = np.full((1, SMALL.box_count, 2), -9, np.float32)
    offsets = np.zeros((1, SMALL.box_count, 4), np.float32)
    logits[..., 0] = 0
    logits[0, :count, 1] = np.linspace(5, 2, count)
    boxes = np.zeros((count, 4), np.float32)
    boxes[:, 0], boxes[:, 1] = 0.008 * np.arange(count), 0.2
    boxes[:, 2:] = boxes[:, :2] + (0.013, 0.2)
    defaults = default_boxes(SMALL)[:count]
    offsets[0, :count, :2] = ((boxes[:, :2] + boxes[:, 2:]) / 2 - defaults[:, :2]) / (
        0.1 * defaults[:, 2:]
    )
    offsets[0, :count, 2:] = np.log((boxes[:, 2:] - boxes[:, :2]) / defaults[:, 2:]) / 0.2
    rows = Postprocessor(SMALL, Thresholds(0.5, 0.2))(logits, offsets)
    np.testing.assert_allclose(rows[:, 3], boxes[::2, 0], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_on_the_cpu_are_taken_and_left_as_they_are(dtype):
    outputs = [torch.from_numpy(x).to(dtype) for x in made_outputs(2, 2, 4, 3.0, 0.0)]
    before = [x.clone() for x in outputs]
    rows = Postprocessor(SMALL, Thresholds(0.2))(*outputs)
    expected = postprocess.Postprocessor(SMALL, Thresholds(0.2))(*outputs)
    assert len(rows) > 20
    assert_same_rows(rows, expected)
    assert all(torch.equal(a, b) for a, b in zip(outputs, before, strict=True))


def test_no_detections_are_an_empty_table():
    logits, offsets = made_outputs(2, 2, 4, 1.0, 30.0)
    assert Postprocessor(SMALL, Thresholds(0.5))(logits, offsets).shape == (0, 7)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), st.integers(0, 8700))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_arrays_are_decoded_as_tensors_are(numbers, index):
    defaults, offsets = default_boxes(PAPER_VOC)[index : index + 1], np.array([numbers], np.float32)
    expected = decode(torch.from_numpy(offsets), torch.from_numpy(defaults), (0.1, 0.2)).numpy()
    np.testing.assert_allclose(
        decode_arrays(offsets, defaults, (0.1, 0.2)), expected, rtol=1e-5, atol=1e-5
    )
