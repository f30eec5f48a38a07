# SPDX-License-Identifier: Apache-2.0
"""The device of every tensor on CUDA, checked without a GPU; see `fake_cuda`."""

import numpy as np
import pytest
import torch
from fake_cuda import DEVICE, ROWS, FakeSSD, fake_cuda

from ssd_ros.backends import pytorch
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import PyTorchBackend, forward, noise
from ssd_ros.detections import Thresholds
from ssd_ros.model.postprocess import Postprocessor, postprocess


@pytest.fixture
def device(monkeypatch):
    """DEVICE, taken for a device of this machine."""
    monkeypatch.setattr(pytorch, "choose_device", lambda _name: torch.device(DEVICE))
    return DEVICE


def test_a_tensor_that_was_left_on_the_cpu_is_found():
    with fake_cuda():
        model = FakeSSD()
        model.mean = model.mean.cpu()
        with pytest.raises(RuntimeError, match="same device"):
            forward(model, noise(1, 300))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_network_and_the_check_of_its_precision_stay_on_the_device(device, precision):
    with fake_cuda():
        backend = PyTorchBackend(FakeSSD(), BackendOptions(device=device, precision=precision))
        assert (backend.device, backend.precision) == (DEVICE, precision)
        assert "instead of" not in backend.note
        logits, offsets = backend.infer(noise(2, 300))
    assert logits.dtype == pytorch.PRECISIONS[precision]
    assert (str(logits.device), str(offsets.device)) == (DEVICE, DEVICE)


def test_inference_does_not_wait_for_the_device(device):
    with fake_cuda() as values:
        backend = PyTorchBackend(FakeSSD(), BackendOptions(device=device, precision="fp16"))
        values.waits.clear()
        backend.infer(noise(2, 300))
        assert values.waits == []


def test_without_cuda_graphs_the_network_runs_eagerly_and_says_why(device):
    if torch.cuda.is_available():
        pytest.skip("fake tensors and real graphs do not mix")
    with fake_cuda():
        backend = PyTorchBackend(FakeSSD(), BackendOptions(device=device, precision="fp16"))
        backend.warm_up(2)
        assert "; no CUDA graphs: " in backend.note
        assert len(backend.infer(noise(2, 300))[0]) == 2
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("mask", [None, np.array([True, False, True])])
def test_post_processing_stays_on_the_device_and_waits_five_times_before_the_copy(mask):
    with fake_cuda() as values:
        model = FakeSSD()
        outputs = forward(model, noise(2, 300))
        on_device = None if mask is None else torch.from_numpy(mask).to(DEVICE)
        values.waits.clear()
        rows = postprocess(*outputs, model.defaults, Thresholds(), on_device)
        assert (rows.shape, str(rows.device)) == ((ROWS, 7), DEVICE)
        assert values.waits == ["nonzero", "nonzero", "nonzero", "nms", "nonzero"]


def test_the_check_of_the_outputs_comes_with_the_one_copy_to_the_host(monkeypatch):
    copied = []
    monkeypatch.setattr(torch.Tensor, "numpy", lambda rows: copied.append(rows) or np.ones((6, 7)))
    with fake_cuda() as values:
        model = FakeSSD()
        process = Postprocessor(model.config, Thresholds(), None, DEVICE)
        outputs = forward(model, noise(1, 300))
        values.waits.clear()
        assert process(*outputs).shape == (ROWS, 7)
        assert values.waits.count("copy to the host") == 1
        assert values.waits[-1] == "copy to the host"
        assert "item" not in values.waits
    (rows,) = copied
    assert rows.shape == (1 + ROWS, 7)
