# SPDX-License-Identifier: Apache-2.0
"""CUDA tensors without a GPU: PyTorch's fake tensors have shape, type and device, but no values.

An operation on tensors of different devices fails as on a GPU, so a tensor that was left on the CPU
is found.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ssd_ros.model.ssd import SSD

if torch.torch_version.TorchVersion(torch.__version__) < (2, 14):
    reason = "before PyTorch 2.14 fake tensors of CUDA need a driver"
    pytest.skip(reason, allow_module_level=True)

DEVICE = "cuda:0"
ROWS = 5  # that pass each test of values
aten = torch.ops.aten


class HostValues(TorchDispatchMode):
    """Answers what only values could: how many rows pass a test, and numbers read by the host.

    Attributes:
        number: what the host reads where it reads a floating-point number.
        waits: the operations so far for which the host would wait for the GPU.
    """

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "aten":  # under inference_mode one made of others arrives as a whole
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if func is aten._local_scalar_dense.default:
            self.waits.append("item")
            return {torch.bool: True, torch.int64: 1}.get(args[0].dtype, self.number)
        if func is aten.nonzero.default:
            self.waits.append("nonzero")
            return args[0].new_empty((ROWS, args[0].ndim), dtype=torch.int64)
        if func is torch.ops.torchvision.nms.default:
            self.waits.append("nms")
            return args[0].new_empty(ROWS, dtype=torch.int64)
        if func is aten.index.Tensor and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        ):
            self.waits.append("mask")
            (mask,) = args[1]
            assert mask.device == args[0].device
            return args[0].new_empty((ROWS, *args[0].shape[mask.ndim :]))
        result = func(*args, **kwargs)
        if func is aten._to_copy.default and args[0].is_cuda and not result.is_cuda:
            self.waits.append("copy to the host")
        return result


@contextmanager
def fake_cuda(number: float = 0.0) -> Iterator[HostValues]:
    """Tensors made in this context are fake; see `HostValues`."""
    with FakeTensorMode(), HostValues(number) as values:
        yield values


class FakeSSD(SSD):
    """A network with fake tensors on DEVICE; `to` cannot replace them."""

    def __init__(self, num_classes: int = 3) -> None:
        with torch.device(DEVICE):
            super().__init__(num_classes, width=0.0625)
        for name, buffer in self._buffers.items():
            assert buffer is not None
            self._buffers[name] = buffer.to(DEVICE)

    def __deepcopy__(self, _memo: Any) -> "FakeSSD":
        return FakeSSD(self.num_classes)  # a copied tensor would belong to another context

    def to(self, *_args: Any, **_options: Any) -> "FakeSSD":  # type: ignore[override]
        return self
