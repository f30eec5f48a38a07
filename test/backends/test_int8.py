# SPDX-License-Identifier: Apache-2.0
"""Quantised weights run in 8-bit integers with OpenVINO, and unchanged elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_weights import quantised

from ssd_ros.backends import openvino_graph
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.backends.openvino import choose_precision, engine, weight_bits
from ssd_ros.backends.pytorch import choose_precision as choose_for_pytorch
from ssd_ros.model.config import PAPER_VOC, RESNET50
from ssd_ros.model.layers import convolutions, heads
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.quantisation import round_weights, with_exact_zero
from ssd_ros.weights.weights import Weights

INT8 = BackendOptions("openvino", "cpu", "int8")
FP32 = BackendOptions("openvino", "cpu", "fp32")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.repeat(np.repeat(rng.integers(0, 256, (2, 30, 30, 3), np.uint8), 10, 1), 10, 2)


@pytest.fixture(scope="module", params=[PAPER_VOC, RESNET50], ids=lambda config: config.backbone)
def weights(request, images) -> Weights:
    torch.manual_seed(1)
    model = SSD(2, width=0.125, config=request.param)
    return quantised(Weights(model.state_dict(), ("cup", "cat"), model.config), images)


def layer_types(weights: Weights, bits: int | None) -> dict[str, str]:
    """The type in which the processor really runs each convolution."""
    model = openvino_graph.build(weights, bits)
    compiled = engine().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    infos = [
        (op.get_friendly_name(), op.get_rt_info()) for op in compiled.get_runtime_model().get_ops()
    ]
    return {
        name.removesuffix(".conv"): info["runtimePrecision"].astype(str)
        for name, info in infos
        if info["layerType"].astype(str) == "Convolution"
    }


def all_convolutions(weights: Weights) -> set[str]:
    config = weights.config
    return {conv.name for conv in (*convolutions(config), *heads(config, 2))}


def in_network(name: str, weights: Weights) -> str:
    """A convolution of VGG16, or one at a like place in ResNet-50."""
    like = {"conv4.3": "conv4.2.3", "conv5.1": "conv5.1.down"}
    return like.get(name, name) if weights.config.backbone == "resnet50" else name


def test_every_convolution_runs_in_integers_and_none_without_being_asked_to(weights):
    names = all_convolutions(weights)
    for bits in (8, 7):
        types = layer_types(weights, bits)
        assert types.keys() == names
        assert set(types.values()) <= {"u8", "i8"}
    assert layer_types(weights, None) == dict.fromkeys(names, "f32")


@pytest.mark.parametrize("kept", [{"conv1.1"}, {"conv4.3", "conv5.1"}, {"scores.0", "offsets.3"}])
def test_kept_convolutions_run_in_floating_point(weights, kept):
    kept = {in_network(name, weights) for name in kept}
    assert weights.quantisation is not None
    changed = replace(weights.quantisation, kept=frozenset(kept))
    types = layer_types(replace(weights, quantisation=changed), 7)
    assert {name for name, kind in types.items() if kind == "f32"} == kept


def test_a_network_that_is_kept_as_a_whole_computes_the_same_as_in_fp32(weights, images):
    assert weights.quantisation is not None
    changed = replace(weights.quantisation, kept=frozenset(all_convolutions(weights)))
    kept = create(replace(weights, quantisation=changed), INT8)
    for ours, theirs in zip(kept.infer(images), create(weights, FP32).infer(images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_int8_is_nearly_fp32_and_said(weights, images):
    backend = create(weights, BackendOptions("openvino"))
    assert backend.precision == "int8"
    assert f"int8 with {weight_bits()}-bit weights" in backend.note
    for ours, theirs in zip(
        backend.infer(images), create(weights, FP32).infer(images), strict=True
    ):
        assert 0 < np.abs(ours - theirs).max() < 0.15 * np.ptp(theirs)
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


def test_the_ranges_of_the_file_are_those_that_are_used(weights, images):
    assert weights.quantisation is not None
    second_map = {"vgg16": "conv7.0", "resnet50": "conv4.6"}[weights.config.backbone]
    assert second_map in weights.quantisation.ranges
    ranges = dict(weights.quantisation.ranges) | {second_map: (0.0, 1e-6)}
    cut = replace(weights, quantisation=replace(weights.quantisation, ranges=ranges))
    logits, _ = create(weights, INT8).infer(images)
    logits = logits.copy()
    cut_logits, _ = create(cut, INT8).infer(images)
    first_map = 38**2 * 4  # does not depend on it
    assert np.array_equal(logits[:, :first_map], cut_logits[:, :first_map])
    assert not np.allclose(logits[:, first_map:], cut_logits[:, first_map:], atol=1e-3)


def test_weights_without_ranges_are_told_how_to_get_them(weights):
    plain = replace(weights, quantisation=None)
    with pytest.raises(ValueError, match=r"needs quantised weights.*python -m training.quantize"):
        create(plain, INT8)
    assert create(plain, BackendOptions("openvino")).precision in ("fp32", "bf16")


def test_pytorch_ignores_the_ranges_and_refuses_int8(weights, images):
    options = BackendOptions("pytorch", "cpu")
    backend = create(weights, options)
    assert backend.precision == "fp32"
    plain = create(replace(weights, quantisation=None), options)
    for ours, theirs in zip(backend.infer(images), plain.infer(images), strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))
    with pytest.raises(ValueError, match="'int8' needs backend 'openvino'"):
        create(weights, BackendOptions("pytorch", "cpu", "int8"))
    with pytest.raises(ValueError, match="'int8' needs backend 'openvino'"):
        choose_for_pytorch("int8", torch.device("cuda"))


@pytest.mark.parametrize(
    ("name", "supported", "quantised", "expected"),
    [
        ("auto", ["FP32", "BF16", "INT8"], True, "int8"),
        ("auto", ["FP32", "BF16"], True, "bf16"),
        ("auto", ["FP32", "INT8"], False, "fp32"),
        ("int8", ["FP32", "INT8"], True, "int8"),
        ("bf16", ["FP32", "BF16", "INT8"], True, "bf16"),
    ],
)
def test_precision_of_quantised_weights(name, supported, quantised, expected):
    assert choose_precision(name, supported, quantised) == expected


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2 fma\n", 7),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", 8),
        ("flags\t\t: fpu avx2 avx_vnni\n", 8),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", 8),
        ("processor\t: 0\nFeatures\t: fp asimd\n", 7),
        ("model name\t: avx_vnni\n", 7),
    ],
)
def test_weights_have_8_bits_only_where_sums_cannot_saturate(text, bits, tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert weight_bits(file) == bits
    assert weight_bits(tmp_path / "none") == 7


@pytest.mark.parametrize("bits", [8, 7])
def test_kernels_are_rounded_by_output_channel(bits):
    kernel = np.random.default_rng(0).normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    kernel *= np.array([1, 100, 1e-3, 0, 1], np.float32).reshape(5, 1, 1, 1)
    integers, scale = round_weights(kernel, bits)
    assert integers.dtype == np.int8
    assert scale.shape == (5, 1, 1, 1)
    largest = 2 ** (bits - 1) - 1
    assert np.abs(integers).max((1, 2, 3)).tolist() == [largest, largest, largest, 0, largest]
    assert np.abs(integers * scale - kernel).max() <= np.abs(scale).max() / 2 * 1.001
    assert (np.abs(integers * scale - kernel) <= scale / 2 * 1.001).all()


def test_zero_is_a_level_of_every_range():
    low, high = with_exact_zero(-123.4, 151.0)
    step = (high - low) / 255
    assert low / step == pytest.approx(round(low / step), abs=1e-9)
    assert (low, high) == pytest.approx((-123.4, 151.0), abs=step)
    assert with_exact_zero(0.0, 5.0) == (0.0, 5.0)
