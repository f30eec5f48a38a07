# SPDX-License-Identifier: Apache-2.0
"""Trains SSD300: python -m training.train --data DIR --out runs/NAME; the same under torchrun."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ssd_ros.backends.pytorch import PRECISIONS
from ssd_ros.detector import Detector
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD300
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights
from training import evaluate
from training.data import batches, voc
from training.data.augment import Augment
from training.trainer import batch_norm, box_scales, optimizer, options, pretrained, run_files
from training.trainer.distributed import Processes, Signals
from training.trainer.ema import Average
from training.trainer.loss import match, multibox_loss
from training.trainer.options import Options

LOG_EVERY = 10


class NotFinite(RuntimeError):
    """The loss or the gradient is not a number; the message names the images of the batch."""


@dataclass
class Progress:
    """How far a run is: what a checkpoint holds besides tensors.

    Attributes:
        iteration: steps done.
        best: highest validation mAP (VOC2007) so far, -1 before the first.
        sums: classification and localisation loss, summed since the last line of the metrics.
        seconds: spent training, over all sessions.
    """

    iteration: int = 0
    best: float = -1.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seconds: float = 0.0


class Trainer:
    """A run: its network, optimiser, average and data, and one method for each thing it does."""

    def __init__(self, run: Options, processes: Processes) -> None:
        torch.manual_seed(run.seed)
        self.run, self.processes, self.out = run, processes, Path(run.out)
        self.device = processes.device
        names = [name.strip() for name in run.classes.split(",")] if run.classes else None
        items = voc.find_items(Path(run.data), run.sets)
        self.examples, self.classes = batches.load(items, names)
        self.val_examples: list[batches.Example] = []
        if run.val_sets != "none":
            items = voc.find_items(Path(run.data), run.val_sets)
            self.val_examples, _ = batches.load(items, self.classes)
        self._report_dropped()

        start = pretrained.read(run.init) if run.init else None
        self.config = start.config if start else PAPER_VOC
        if not (start and start.classes):
            self.config = box_scales.with_scales(self.config, run.boxes, self.examples)
        self.model = SSD300(len(self.classes), run.width, self.config)
        pretrained.quiet_heads(self.model)
        if run.batch_norm:
            batch_norm.add(self.model)
        if start:
            pretrained.apply(self.model, start, self.classes, pretrained.layers(run.init_layers))
        self.frozen = pretrained.freeze(self.model, pretrained.layers(run.freeze))
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.average = Average(self.model, run.ema)
        self.network: nn.Module = self.model
        if processes.count > 1:
            self.network = DistributedDataParallel(
                self.model, [self.device] if self.device.type == "cuda" else None
            )
        self.optimizer = optimizer.make(self.model, run)
        self.dtype = optimizer.choose_dtype(run.precision, self.device)
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.device.type == "cuda" and self.dtype is torch.float16
        )
        self.progress = Progress()

    def _report_dropped(self) -> None:
        dropped = batches.dropped_boxes(self.examples)
        if dropped and self.processes.first:
            first = ", ".join(list(dropped)[:3])
            print(
                f"warning: {dropped.total()} boxes without an area are left out, in {first}"
                f"{' …' if len(dropped) > 3 else ''}; see python -m training.voc check",
                file=sys.stderr,
            )

    # --- one iteration --------------------------------------------------------------------------

    def step(self, parts: Sequence[batches.Batch], stop: bool = False) -> bool:
        """One step of the optimiser on a batch that comes in parts.

        The loss is divided by the matches of all parts and processes, so that neither changes the
        result.

        Returns:
            Whether any process was told to stop.

        Raises:
            NotFinite: the loss or the gradient is.
        """
        run, defaults = self.run, self.model.defaults
        variances = self.model.config.variances
        matches = [
            match(part.boxes.to(self.device), part.labels.to(self.device), defaults)
            for part in parts
        ]
        positives, stops = self.processes.sum(sum(m.positives for m in matches), stop)
        divisor = max(positives, 1) / self.processes.count  # DistributedDataParallel averages
        self.network.train()
        for module in self.frozen:
            module.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = run.lr * group["factor"] * optimizer.rate(self.progress.iteration, run)
        sums = torch.zeros(2, device=self.device)
        for i, (part, found) in enumerate(zip(parts, matches, strict=True)):
            last = i == len(parts) - 1
            with self._synchronised(last), self._autocast():
                images = part.images.to(self.device, non_blocking=True)
                scores, offsets = self.network(self.model.normalise(images))
                losses = (
                    torch.stack(multibox_loss(scores, offsets, found, defaults, variances))
                    / divisor
                )
                self.scaler.scale(losses.sum()).backward()
            sums += losses.detach()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), run.clip)
        self._check_finite(sums, norm, parts)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model)
        self.progress.iteration += 1
        self.progress.sums = [a + b for a, b in zip(self.progress.sums, sums.tolist(), strict=True)]
        return stops > 0

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype is not torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=enabled)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are exchanged with the last part alone."""
        if isinstance(self.network, DistributedDataParallel) and not last:
            return self.network.no_sync()
        return contextlib.nullcontext()

    def _check_finite(self, losses: Tensor, norm: Tensor, parts: Sequence[batches.Batch]) -> None:
        # With a scaler a gradient may overflow: it skips the step and takes a smaller scale.
        if losses.isfinite().all() and (self.scaler.is_enabled() or norm.isfinite()):
            return
        names = [name for part in parts for name in part.names]
        raise NotFinite(
            f"iteration {self.progress.iteration}: the loss is not finite (classification "
            f"{losses[0]:g}, localisation {losses[1]:g}, gradient norm {norm:g}). A learning rate "
            f"too high (--lr {self.run.lr:g}) or an image of this batch is to blame:\n  "
            + "\n  ".join(names)
        )

    # --- the whole run --------------------------------------------------------------------------

    def train(self, metrics: run_files.Metrics | None) -> int:
        """Runs to the last iteration, or until a signal.

        Returns:
            0, or the number of the signal.
        """
        run, progress = self.run, self.progress
        augment = Augment(run.augment, tuple(255 * value for value in self.config.mean))
        stream = iter(
            batches.loader(
                batches.Draws(self.examples, augment, run.seed),
                progress.iteration * run.accumulate,
                run.iterations * run.accumulate,
                run.batch // run.accumulate,
                run.workers,
                self.processes.rank,
                self.processes.count,
            )
        )
        bar = tqdm(
            total=run.iterations * run.batch * self.processes.count,
            initial=progress.iteration * run.batch * self.processes.count,
            unit="img",
            desc=self.out.name,
            disable=None if self.processes.first else True,
            smoothing=0.05,
        )
        with Signals() as signals, bar:
            while progress.iteration < run.iterations:
                began = time.monotonic()
                parts = [next(stream) for _ in range(run.accumulate)]
                stop = self.step(parts, stop=signals.received > 0)
                progress.seconds += time.monotonic() - began
                bar.update(run.batch * self.processes.count)
                done = progress.iteration == run.iterations
                if progress.iteration % LOG_EVERY == 0 or done:
                    self._log(metrics, bar)
                if progress.iteration % run.validate_every == 0 or done:
                    self._validate(metrics, bar)
                if stop or done or progress.iteration % run.checkpoint_every == 0:
                    self.save()
                if stop and not done:
                    return signals.received or 15
        return 0

    def _log(self, metrics: run_files.Metrics | None, bar: tqdm[Any]) -> None:
        steps = (self.progress.iteration - 1) % LOG_EVERY + 1
        classification, location = (
            value / steps / self.processes.count
            for value in self.processes.sum(*self.progress.sums)
        )
        self.progress.sums = [0.0, 0.0]
        bar.set_postfix(loss=f"{classification + location:.3f}", best=f"{self.progress.best:.3f}")
        if metrics:
            metrics.add(
                self.progress.iteration,
                loss=classification + location,
                classification=classification,
                location=location,
                lr=self.run.lr * optimizer.rate(self.progress.iteration - 1, self.run),
                seconds=round(self.progress.seconds, 2),
            )

    def _validate(self, metrics: run_files.Metrics | None, bar: tqdm[Any]) -> None:
        """Writes the weights as they are, and keeps them as the best if they are."""
        if metrics:
            result = None
            if self.val_examples:
                detector = Detector(
                    self.weights(None), str(self.device), "fp32", evaluate.THRESHOLDS
                )
                found = evaluate.detect(detector, self.val_examples)
                there = evaluate.objects(self.val_examples)
                result = evaluate.figures(found, there, self.classes)
                metrics.add(
                    self.progress.iteration, map=result["map"], map_voc2007=result["map_voc2007"]
                )
                bar.write(
                    f"iteration {self.progress.iteration}: mAP (VOC2007) "
                    f"{result['map_voc2007'] or 0:.4f}",
                    file=sys.stderr,
                )
            write(self.out / run_files.LAST, self.weights(result, stored=True))
            score = (result["map_voc2007"] or 0.0) if result else 0.0
            if score > self.progress.best or not self.val_examples:
                self.progress.best = score
                write(self.out / run_files.BEST, self.weights(result, stored=True))
        self.processes.wait()

    def weights(self, result: dict[str, Any] | None, stored: bool = False) -> Weights:
        """The averaged weights as the robot takes them: batch normalisation folded.

        Args:
            result: figures of `evaluate`, to be noted in the file.
            stored: in the type that they are written in, instead of float32.
        """
        dtype = PRECISIONS[self.run.store] if stored else torch.float32
        tensors = batch_norm.fold(self.average.tensors)
        note = {
            "data": Path(self.run.data).resolve().name,
            "sets": self.run.sets,
            "val_sets": self.run.val_sets,
            "iterations": self.progress.iteration,
            "batch": self.run.batch * self.processes.count,
            "minutes": round(self.progress.seconds / 60, 1),
            "seed": self.run.seed,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        if result:
            note |= {key: result[key] for key in ("map_voc2007", "map")}
        tensors = {key: tensor.to("cpu", dtype) for key, tensor in tensors.items()}
        return Weights(tensors, self.classes, self.model.config, note)

    # --- checkpoints ----------------------------------------------------------------------------

    def save(self) -> None:
        if self.processes.first:
            run_files.write_checkpoint(
                self.out,
                {
                    "options": options.as_dict(self.run),
                    "classes": list(self.classes),
                    "processes": self.processes.count,
                    "progress": asdict(self.progress),
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "average": self.average.state_dict(),
                    "scaler": self.scaler.state_dict(),
                },
            )
        self.processes.wait()

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where a checkpoint was written.

        Raises:
            ValueError: the data set has other classes now, or the number of processes changed.
        """
        if tuple(state["classes"]) != self.classes:
            raise ValueError(
                f"the data has the classes {', '.join(self.classes)}, the run to resume "
                f"{', '.join(state['classes'])}"
            )
        if state["processes"] != self.processes.count:
            raise ValueError(
                f"the run to resume has {state['processes']} processes, not {self.processes.count}"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        out, resume = options.peek(arguments)
        state = run_files.read_checkpoint(out) if out else None
        if state is not None and not resume:
            raise ValueError(f"'{out}' holds a run; go on with --resume, or choose another --out")
        run = options.resolve(arguments, state["options"] if state else None)
        processes = Processes(run.device)
        trainer = Trainer(run, processes)
        if state is not None:
            trainer.restore(state)
        metrics = None
        if processes.first:
            iteration = trainer.progress.iteration
            given = sys.argv[1:] if arguments is None else arguments
            device = f"{processes.count} x {processes.device_name}"
            stored = options.as_dict(run)
            run_files.add_session(trainer.out, iteration, given, stored, trainer.classes, device)
            metrics = run_files.Metrics(trainer.out, iteration, run.tensorboard)
            print(
                f"{len(trainer.examples)} images, {len(trainer.classes)} classes "
                f"({', '.join(trainer.classes)}), {device}, "
                f"{str(trainer.dtype).split('.')[-1]}, iterations {iteration} to {run.iterations}",
                file=sys.stderr,
            )
        received = trainer.train(metrics)
        processes.close()
    except (ValueError, OSError, NotFinite) as error:
        print(f"error: {batches.reason(error)}", file=sys.stderr)
        return 1
    if not received and processes.first:
        print(
            f"done: {trainer.out / run_files.BEST}\n"
            f"a page about it: python -m training.report {trainer.out}",
            file=sys.stderr,
        )
    if received:
        print(f"stopped by signal {received}; --resume goes on", file=sys.stderr)
        return 128 + received
    return 0


if __name__ == "__main__":
    sys.exit(main())
