# SPDX-License-Identifier: Apache-2.0
"""The interface between detector and engine, with the engine that there is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD300
from ssd_ros.weights.weights import Weights


@pytest.fixture(scope="module")
def weights() -> Weights:
    torch.manual_seed(1)
    model = SSD300(2, width=0.0625)
    return Weights(model.state_dict(), ("cup", "cat"), model.config)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)


def test_outputs_are_those_of_the_network_for_each_default_box(weights, images):
    backend = create(weights, BackendOptions(device="cpu"))
    assert (backend.name, backend.device, backend.precision) == ("pytorch", "cpu", "fp32")
    logits, offsets = backend.infer(images)
    assert logits.shape == (2, PAPER_VOC.box_count, 3)
    assert offsets.shape == (2, PAPER_VOC.box_count, 4)
    model = weights.model()
    with torch.inference_mode():
        expected = model(model.normalise(torch.from_numpy(images)))
    torch.testing.assert_close((logits, offsets), expected, rtol=1e-4, atol=1e-4)


def test_bf16_is_nearly_the_same_and_said(weights, images):
    backend = create(weights, BackendOptions(device="cpu", precision="bf16"))
    assert backend.precision == "bf16"
    logits, _ = backend.infer(images)
    expected, _ = create(weights, BackendOptions(device="cpu")).infer(images)
    assert logits.dtype == torch.bfloat16
    assert (logits.float().softmax(-1) - expected.softmax(-1)).abs().mean() < 0.01


def test_a_backend_does_not_change_the_weights(weights, images):
    before = {key: value.clone() for key, value in weights.tensors.items()}
    create(weights, BackendOptions(device="cpu", precision="bf16")).infer(images)
    assert all(torch.equal(before[key], value) for key, value in weights.tensors.items())


def test_a_closed_backend_refuses_to_run(weights, images):
    backend = create(weights, BackendOptions(device="cpu"))
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.infer(images)


def test_threads_are_set_where_they_are_asked_for(weights):
    before = torch.get_num_threads()
    try:
        create(weights, BackendOptions(device="cpu", threads=before + 1))
        assert torch.get_num_threads() == before + 1
        create(weights, BackendOptions(device="cpu"))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("backend", "abacus", "backend must be auto, pytorch, got 'abacus'"),
        ("precision", "fp64", "precision must be auto, fp32, bf16, fp16, got 'fp64'"),
        ("threads", -1, "threads must be at least 0, got -1"),
        ("max_batch", 0, "max_batch must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_value(option, value, message):
    with pytest.raises(ValueError, match=message):
        BackendOptions(**{option: value})


def test_a_device_that_does_not_exist_is_refused_by_name(weights):
    with pytest.raises(ValueError, match=r"'cuda:99' not found: PyTorch .* reports"):
        create(weights, BackendOptions(device="cuda:99"))


def scaled(weights: Weights, layer: str, factor: float) -> Weights:
    """The same weights, but one layer's multiplied."""
    tensors = dict(weights.tensors)
    tensors[f"{layer}.weight"] = factor * tensors[f"{layer}.weight"]
    return replace(weights, tensors=tensors)


def test_half_precision_that_overflows_is_not_used(weights, images):
    tensors = dict(scaled(weights, "conv7.0", 1e6).tensors)  # activations above 65504
    for layer in ("conv8.1", "scores.1", "offsets.1"):  # in float32 the outputs stay the same
        tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"] / 1e6
    large = replace(weights, tensors=tensors)
    backend = create(large, BackendOptions(device="cpu", precision="fp16"))
    assert backend.precision == "fp32"
    assert backend.note == "fp32 instead of fp16: its outputs are not finite"
    expected = create(weights, BackendOptions(device="cpu")).infer(images)
    torch.testing.assert_close(backend.infer(images), expected, rtol=1e-3, atol=1e-3)


def test_a_precision_that_is_used_leaves_no_note(weights):
    assert create(weights, BackendOptions(device="cpu", precision="bf16")).note == ""
    assert create(weights, BackendOptions(device="cpu")).note == ""


@pytest.mark.parametrize("head", ["scores.2", "offsets.5"])
def test_outputs_that_are_not_finite_are_an_error_with_the_precision(weights, images, head):
    broken = scaled(weights, head, float("inf"))
    with pytest.raises(RuntimeError, match=r"not finite \(NaN or infinity\) in fp32"):
        create(broken, BackendOptions(device="cpu")).infer(images)
    with pytest.raises(RuntimeError, match=r"not finite \(NaN or infinity\) in fp32"):
        create(broken, BackendOptions(device="cpu", precision="bf16"))


def test_warm_up_on_the_cpu_changes_nothing(weights, images):
    backend = create(weights, BackendOptions(device="cpu"))
    expected = [output.clone() for output in backend.infer(images)]
    backend.warm_up(4)
    torch.testing.assert_close(backend.infer(images), tuple(expected), rtol=0, atol=0)
    assert backend.note == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cuda_graphs_give_the_outputs_of_the_network(weights, images, precision):
    backend = create(weights, BackendOptions(device="cuda", precision=precision))
    expected = [[o.clone() for o in backend.infer(images[:count])] for count in (1, 2)]
    backend.warm_up(2)
    assert (backend.precision, backend.note) == (precision, "")
    for count in (2, 1, 2):
        backend.infer(255 - images[:count])  # its input and outputs must not stay
        torch.testing.assert_close(
            list(backend.infer(images[:count])), expected[count - 1], rtol=0.02, atol=0.05
        )
    assert not torch.backends.cudnn.benchmark
