# SPDX-License-Identifier: Apache-2.0
"""The detector without ROS: what goes in and what comes out."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import choose_device, choose_precision
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector, network_input
from ssd_ros.drawing import annotate
from ssd_ros.image import Image
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.weights import Weights

CLASSES = ("cup", "cat", "rocket")
THRESHOLDS = Thresholds(score_threshold=0.4)
CPU = BackendOptions(device="cpu")
BF16 = BackendOptions("pytorch", "cpu", "bf16")


@pytest.fixture(scope="module")
def weights() -> Weights:
    torch.manual_seed(1)
    model = SSD(len(CLASSES), width=0.125)
    return Weights(model.state_dict(), CLASSES, model.config)


@pytest.fixture(scope="module")
def detector(weights) -> Detector:
    return Detector(weights, CPU, thresholds=THRESHOLDS)


def photograph(seed: int, width: int = 400, height: int = 260) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_boxes_are_in_pixels_of_the_image_and_best_first(detector):
    found = detector([Image(photograph(0))])[0]
    assert len(found) > 3
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == ("f4", "f4", "i8")
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    assert (found.boxes[:, 2:] <= (400, 260)).all()
    assert found.boxes[:, 2].max() > 300  # pixels, not fractions
    assert set(found.labels) <= {0, 1, 2}


def test_a_batch_finds_what_single_images_find(detector):
    images = [Image(photograph(i, 300 + 50 * i, 260)) for i in range(4)]
    for image, together in zip(images, detector(images), strict=True):
        alone = detector([image])[0]
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=0.01)
        np.testing.assert_array_equal(together.labels, alone.labels)
    assert detector([]) == []


@pytest.mark.parametrize(
    ("order", "conversion"),
    [("rgb", cv2.COLOR_BGR2RGB), ("rgba", cv2.COLOR_BGR2RGBA), ("bgra", cv2.COLOR_BGR2BGRA)],
)
def test_channel_orders_of_one_image_are_one_input(order, conversion):
    pixels = photograph(1)
    expected = network_input([Image(pixels, "bgr")])
    got = network_input([Image(cv2.cvtColor(pixels, conversion), order)])
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(expected[0], cv2.resize(pixels, (300, 300))[..., ::-1])


def test_padded_rows_and_grey_images_are_taken():
    padded = np.zeros((260, 500, 3), np.uint8)
    padded[:, :400] = photograph(2)
    expected = network_input([Image(photograph(2))])
    np.testing.assert_array_equal(network_input([Image(padded[:, :400])]), expected)
    grey = cv2.cvtColor(photograph(2), cv2.COLOR_BGR2GRAY)
    for pixels in (grey, grey[..., None]):
        row = network_input([Image(pixels, "mono")])
        assert (row[..., 0] == row[..., 2]).all()


def test_a_reduced_image_has_its_boxes_at_full_size(detector):
    pixels = photograph(3, 800, 520)
    full = detector([Image(pixels)])[0]
    reduced = detector([Image(cv2.resize(pixels, (300, 300)), "bgr", (800, 520))])[0]
    np.testing.assert_allclose(reduced.boxes, full.boxes, atol=0.01)


@pytest.mark.parametrize(
    ("pixels", "order"),
    [
        (np.zeros((4, 4, 3), np.float32), "bgr"),
        (np.zeros((4, 4), np.uint8), "bgr"),
        (np.zeros((4, 4, 4), np.uint8), "rgb"),
        (np.zeros((0, 4, 3), np.uint8), "bgr"),
    ],
)
def test_pixels_that_are_no_image_are_refused_with_their_shape(pixels, order):
    with pytest.raises(ValueError, match=rf"{order} image must be uint8 .* got {pixels.dtype}"):
        Image(pixels, order)


def test_thresholds_and_classes_change_without_loading_again(detector):
    cats = detector.with_thresholds(Thresholds(0.4, max_detections=2), class_filter=["cat"])
    found = cats([Image(photograph(0))])[0]
    assert len(found) <= 2
    assert set(found.labels) <= {1}
    assert len(detector([Image(photograph(0))])[0]) > 3
    with pytest.raises(ValueError, match="unknown class 'dog'; the weights have: cup, cat"):
        detector.with_thresholds(THRESHOLDS, class_filter=["dog"])


def test_bf16_finds_nearly_the_same(weights, detector):
    half = Detector(weights, BF16, THRESHOLDS)
    image = Image(photograph(0))
    best, best_half = detector([image])[0], half([image])[0]
    assert abs(float(best.scores[0] - best_half.scores[0])) < 0.05


def test_default_boxes_stay_exact_in_bf16(weights):
    zeroed = {k: 0 * t if k.startswith("offsets") else t for k, t in weights.tensors.items()}
    half = Detector(replace(weights, tensors=zeroed), BF16, Thresholds(0.3))
    found = half([Image(photograph(0, 300, 300))])[0]
    centres_and_sizes = default_boxes(PAPER_VOC)
    centres, sizes = centres_and_sizes[:, :2], centres_and_sizes[:, 2:]
    corners = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1).clip(0, 1) * 300
    assert len(found) > 3
    for box in found.boxes:
        assert np.abs(corners - box).max(axis=1).min() < 1e-3


def test_a_closed_detector_refuses_to_run(weights):
    detector = Detector(weights, CPU)
    detector.close()
    with pytest.raises(RuntimeError, match="closed"):
        detector([Image(photograph(0))])


def test_the_input_size_is_the_configuration_s():
    assert network_input([Image(photograph(0))], 128).shape == (1, 128, 128, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_fp16_finds_nearly_the_same(weights, detector):
    on_cuda = Detector(weights, BackendOptions(device="cuda"), thresholds=THRESHOLDS)
    assert on_cuda.precision == "fp16"
    image = Image(photograph(0))
    assert abs(float(on_cuda([image])[0].scores[0] - detector([image])[0].scores[0])) < 0.05


def test_devices_and_precisions_that_are_not_there_are_refused_by_name():
    with pytest.raises(ValueError, match=r"'cuda:99' not found: PyTorch .* reports"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match=r"auto, cpu, cuda or cuda:N, got 'tpu9'"):
        choose_device("tpu9")
    with pytest.raises(ValueError, match="got 'fp64'"):
        choose_precision("fp64", torch.device("cpu"))
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
    assert choose_precision("auto", torch.device("cuda")) == "fp16"


def test_annotation_draws_on_a_copy_of_the_full_size(detector):
    for image in (
        Image(photograph(0)),
        Image(cv2.cvtColor(photograph(0), cv2.COLOR_BGR2GRAY), "mono"),
        Image(photograph(0, 200, 130), "bgr", (400, 260)),
    ):
        before = image.pixels.copy()
        canvas = annotate(image, detector([image])[0], CLASSES)
        assert canvas.shape == (260, 400, 3)
        np.testing.assert_array_equal(image.pixels, before)
        full = cv2.resize(before, (400, 260)) if image.size else before
        assert (canvas != full.reshape(260, 400, -1)).any()
