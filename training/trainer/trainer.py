# SPDX-License-Identifier: Apache-2.0
"""The training loop: optimiser steps, validation, checkpoints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.pytorch import PRECISIONS
from ssd_ros.detector import Detector
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.native import config_to_text, write
from ssd_ros.weights.weights import Weights
from training.data import batches
from training.data.samples import TrainingData
from training.data.soundness import fingerprint
from training.evaluation import predictions
from training.evaluation.metrics import compute_metrics
from training.trainer import export, options, run_files
from training.trainer.distributed import Processes, Signals, gradients_exchanged
from training.trainer.ema import restore_ema
from training.trainer.loss import Targets, match, multibox_loss
from training.trainer.optimizer import lr_factor
from training.trainer.options import Options
from training.trainer.progress import LOG_EVERY, Progress, bar


class NotFinite(RuntimeError):
    """The loss or the gradient is not finite; the message names the images of the batch."""


class Trainer:
    """Trains a network, one Trainer in each process of the run.

    Args:
        run: options of the run; the precision is not `auto`.
        processes: this process and the others.
        data: images to train and to validate on.
        model: on the device, initialised.
        frozen: its layers that stay in evaluation mode.
        optimizer: of its parameters; each group has the key `factor` (see `create_optimizer`).
        ema: average of its weights (see `create_ema`). The average is validated and saved.
    """

    def __init__(
        self,
        run: Options,
        processes: Processes,
        data: TrainingData,
        model: SSD,
        frozen: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        ema: AveragedModel,
    ) -> None:
        self.run, self.processes, self.data = run, processes, data
        self.model, self.frozen, self.optimizer, self.ema = model, frozen, optimizer, ema
        self.out, self.device = Path(run.out), processes.device
        self.network = processes.parallel(model)
        self.dtype = PRECISIONS[run.precision]
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.device.type == "cuda" and self.dtype is torch.float16
        )
        self.progress = Progress()
        self.fingerprint = fingerprint(data)
        self.ancestry: Mapping[str, Any] = {}  # what is known of the weights that it began with

    # --- one iteration --------------------------------------------------------------------------

    def step(self, parts: Sequence[batches.Batch]) -> list[float]:
        """One optimiser step on a batch that comes in parts (gradient accumulation).

        The loss is divided by the matched boxes of all parts and processes, so that neither number
        changes the result.

        Returns:
            The classification and localisation loss of this process; the mean over the processes
            is the loss of the batch.

        Raises:
            NotFinite: the loss or the gradient is not finite.
        """
        targets = [
            match(part.boxes.to(self.device), part.labels.to(self.device), self.model.defaults)
            for part in parts
        ]
        (positives,) = self.processes.sum(sum(t.positives for t in targets))
        divisor = max(positives, 1) / self.processes.count  # DistributedDataParallel averages
        self.network.train()
        for module in self.frozen:
            module.eval()
        rate = self.run.lr * lr_factor(self.progress.iteration, self.run)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        losses = torch.zeros(2, device=self.device)
        for i, (part, part_targets) in enumerate(zip(parts, targets, strict=True)):
            with gradients_exchanged(self.network, i == len(parts) - 1):
                losses += self._backward(part, part_targets, divisor)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        if not losses.isfinite().all() or not (self.scaler.is_enabled() or norm.isfinite()):
            # With a scaler a gradient may overflow: it drops the step and reduces the scale.
            raise NotFinite(_describe(self.progress.iteration, losses, norm, self.run.lr, parts))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.model)
        self.progress.iteration += 1
        return losses.tolist()

    def _backward(self, part: batches.Batch, targets: Targets, divisor: float) -> Tensor:
        """Adds the gradient of a part; returns its two losses, detached."""
        enabled = self.dtype is not torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=enabled):
            images = part.images.to(self.device, non_blocking=True)
            logits, offsets = self.network(self.model.normalise(images))
            sums = multibox_loss(
                logits, offsets, targets, self.model.defaults, self.model.config.variances
            )
            losses = torch.stack(sums) / divisor
            self.scaler.scale(losses.sum()).backward()
        return losses.detach()

    # --- the whole run --------------------------------------------------------------------------

    def fit(self, stream: Iterator[batches.Batch], metrics: run_files.Metrics) -> int:
        """Trains to the last iteration, or until a signal arrives in any process.

        Args:
            stream: the batches of this process from the present iteration to the last, in
                `--accumulate` parts each.
            metrics: receives losses and validation results.

        Returns:
            0, or the number of the signal; then a checkpoint is written.

        Raises:
            NotFinite: the loss is not finite.
            ValueError: an image cannot be read.
        """
        run, progress = self.run, self.progress
        with Signals() as signals, _progress_bar(run, progress, self.processes) as shown:
            while progress.iteration < run.iterations:
                began = time.monotonic()
                parts = [next(stream) for _ in range(run.accumulate)]
                losses = self.step(parts)
                progress.add(losses, time.monotonic() - began)
                stopped = self.processes.any(signals.received > 0)
                done = progress.iteration == run.iterations
                shown.update(run.batch * self.processes.count)
                if progress.iteration % LOG_EVERY == 0 or done:
                    means = progress.take_mean_losses(self.processes)
                    rate = run.lr * lr_factor(progress.iteration - 1, run)
                    metrics.add(
                        progress.iteration, **means, lr=rate, seconds=round(progress.seconds, 2)
                    )
                    best = {} if progress.best < 0 else {"best": f"{progress.best:.3f}"}
                    shown.set_postfix(refresh=False, loss=f"{means['loss']:.3f}", **best)
                if progress.iteration % run.validate_every == 0 or done:
                    self._validate_and_write(metrics)
                if stopped or done or progress.iteration % run.checkpoint_every == 0:
                    self.save()
                if stopped and not done:
                    _write_last(self)
                    return signals.received or 15
        return 0

    def validate(self) -> dict[str, Any] | None:
        """Evaluates the averaged weights with PyTorch, in float32, in this process.

        Returns:
            See `compute_metrics`; None without validation images.
        """
        if not (samples := self.data.val_samples):
            return None
        weights = export.to_weights(self.ema, self.data.classes, {})
        options = BackendOptions("pytorch", str(self.device), "fp32")
        detector = Detector(weights, options, predictions.THRESHOLDS)
        detections = predictions.detect(detector, samples)
        return compute_metrics(detections, predictions.annotated(samples), self.data.classes)

    def _validate_and_write(self, metrics: run_files.Metrics) -> None:
        """Validates and writes the weights in the main process; the others wait."""
        progress = self.progress
        if self.processes.is_main:
            result = self.validate()
            score = result["map_voc2007"] if result else None
            if result:
                metrics.add(progress.iteration, **{k: result[k] for k in ("map", "map_voc2007")})
                known = "undefined (no object counts)" if score is None else f"{score:.4f}"
                text = f"iteration {progress.iteration}: mAP (VOC2007) {known}"
                tqdm.write(text, file=sys.stderr)
            weights = _write_last(self, result)
            if score is None or score > progress.best:  # without a mAP the last are the best
                progress.best = progress.best if score is None else score
                write(self.out / run_files.BEST, weights)
        self.processes.wait()

    # --- checkpoints ----------------------------------------------------------------------------

    def save(self) -> None:
        """Writes the checkpoint in the main process; the others wait."""
        if self.processes.is_main:
            run_files.write_checkpoint(self.out, _checkpoint(self))
        self.processes.wait()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues where a checkpoint was written.

        Args:
            state: as `run_files.read_checkpoint` returns it.

        Raises:
            ValueError: the dataset or the number of processes has changed, or the checkpoint does
                not fit the network.
        """
        run_files.check_resumable(state, self.data.classes, self.fingerprint, self.processes.count)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            restore_ema(self.ema, state["average"])
            self.scaler.load_state_dict(state["scaler"])
            self.progress = Progress.from_checkpoint(state["progress"])
            self.ancestry = state.get("ancestry", {})
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint in '{self.out}' does not fit: {reason}") from None


def _write_last(trainer: Trainer, result: Mapping[str, Any] | None = None) -> Weights:
    """Writes, in the main process, the averaged weights with what is known of them.

    Args:
        result: see `export.provenance`.
    """
    run, count = trainer.run, trainer.processes.count
    note = export.provenance(run, trainer.progress, count, result, trainer.ancestry)
    weights = export.to_weights(trainer.ema, trainer.data.classes, note, PRECISIONS[run.store])
    if trainer.processes.is_main:
        write(trainer.out / run_files.LAST, weights)
    return weights


def _checkpoint(trainer: Trainer) -> dict[str, Any]:
    """What `Trainer.restore` needs."""
    return {
        "options": options.as_dict(trainer.run),
        "classes": list(trainer.data.classes),
        "config": config_to_text(trainer.model.config),
        "data": trainer.fingerprint,
        "processes": trainer.processes.count,
        "device": trainer.device.type,
        "ancestry": dict(trainer.ancestry),
        "progress": asdict(trainer.progress),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "average": trainer.ema.state_dict(),
        "scaler": trainer.scaler.state_dict(),
    }


def _describe(
    iteration: int, losses: Tensor, norm: Tensor, lr: float, parts: Sequence[batches.Batch]
) -> str:
    names = [name for part in parts for name in part.names]
    return (
        f"iteration {iteration}: the loss is not finite (classification {losses[0]:g}, "
        f"localisation {losses[1]:g}, gradient norm {norm:g}). Likely causes: learning rate too "
        f"high (--lr {lr:g}) or a corrupt image in this batch:\n  " + "\n  ".join(names)
    )


def _progress_bar(run: Options, progress: Progress, processes: Processes) -> tqdm[Any]:
    batch = run.batch * processes.count
    return bar(
        total=run.iterations * batch,
        initial=progress.iteration * batch,
        unit="img",
        desc=Path(run.out).name,
        disable=not processes.is_main,
        smoothing=0.05,
    )
