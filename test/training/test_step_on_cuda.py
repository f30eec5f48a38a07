# SPDX-License-Identifier: Apache-2.0
"""The device of every tensor of a training step on CUDA, checked without a GPU; see `fake_cuda`."""

import pytest
import torch
from fake_cuda import DEVICE, FakeSSD, fake_cuda

from training.data.batches import Batch
from training.data.samples import TrainingData
from training.trainer.distributed import Processes
from training.trainer.ema import create_ema
from training.trainer.optimizer import create_optimizer
from training.trainer.options import Options
from training.trainer.trainer import Trainer


def create_trainer(optimizer: str) -> Trainer:
    run = Options(data="d", out="o", optimizer=optimizer, precision="fp32", batch=2, ema=0.9)
    processes = Processes("cpu")
    processes.device = torch.device(DEVICE)
    model = FakeSSD()
    data = TrainingData([], [], ("a", "b", "c"))
    return Trainer(
        run, processes, data, model, (), create_optimizer(model, run), create_ema(model, run.ema)
    )


def batch_on_the_cpu() -> Batch:
    boxes = torch.zeros(2, 3, 4)
    labels = torch.zeros(2, 3, dtype=torch.int64)
    return Batch(torch.zeros(2, 300, 300, 3, dtype=torch.uint8), boxes, labels, ("x", "y"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_step_stays_on_the_device(optimizer, monkeypatch):
    def set_gradients(loss):
        """Instead of `backward`, for which PyTorch needs a GPU."""
        assert (loss.shape, str(loss.device), loss.requires_grad) == ((), DEVICE, True)
        for parameter in trainer.model.parameters():
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(torch.Tensor, "backward", set_gradients)
    with fake_cuda(number=1.0):
        trainer = create_trainer(optimizer)
        losses = trainer.step([batch_on_the_cpu()])
    assert len(losses) == 2
    assert trainer.progress.iteration == 1
