# SPDX-License-Identifier: Apache-2.0
"""How fast a training is: the trainer's step, and its data pipeline without the network.

    python benchmarks/training_speed.py [--steps 5] [--device cuda] [--json OUT | --save DIR]

On a dataset made by code: 500x375 JPEG images with three objects each, as VOC2007's are on average.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from images import image_of
from measuring import ROOT, Table, add_arguments, cores, milliseconds, report
from tqdm import tqdm

sys.path.append(str(ROOT))  # training/ is not installed
from training import train
from training.compose import annotation
from training.composition.compose import Placed
from training.trainer import options as training_options
from training.trainer.distributed import Processes

SIZE, OBJECTS, IMAGES = (500, 375), 3, 64
STEPS = ((0.25, 8), (1.0, 8))  # width and batch size
WARM_UP = 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser, device="cpu")
    add("--steps", type=int, default=5, help="timed iterations of each network, default: 5")
    add("--images", type=int, default=1024, help="that pass the data pipeline, default: 1024")
    add("--threads", type=int, default=cores(), help="of PyTorch, default: %(default)s")
    options = parser.parse_args()
    networks = STEPS[:1] if options.quick else STEPS
    if options.quick:
        options.steps, options.images = 1, 16
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as path, tqdm(unit="measurement", disable=None) as bar:
        data = make_dataset(Path(path) / "data")
        steps, pipeline = [], []
        for width, batch in networks:
            steps.append(step(data, width, batch, options))
            bar.update()
        for workers in (0, 1) if options.quick else (0, 1, cores()):
            pipeline.append(throughput(data, workers, options.images))
            bar.update()
    report(options, [step_table(steps, options), pipeline_table(pipeline, options)])
    return 0


def make_dataset(root: Path) -> Path:
    """A VOC-format folder with one set, trainval."""
    rng = np.random.default_rng(0)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"{i:06d}" for i in range(IMAGES)]
    image = image_of(SIZE)
    for name in names:
        corners = rng.integers(0, 200, (OBJECTS, 2))
        sides = rng.integers(40, 150, (OBJECTS, 2))
        boxes = np.concatenate((corners, corners + sides), axis=1).tolist()
        objects = [Placed(f"class {k}", tuple(box), 1.0) for k, box in enumerate(boxes)]
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), image)
        (root / "Annotations" / f"{name}.xml").write_bytes(annotation(name, SIZE, objects))
    (root / "ImageSets/Main/trainval.txt").write_text("\n".join(names) + "\n")
    return root


def create_trainer(data: Path, *arguments: str) -> train.Trainer:
    given = ["--data", str(data), "--out", str(data.parent / "run"), "--val-sets", "none"]
    run = training_options.resolve([*given, *arguments], None)
    return train.create_trainer(run, Processes(run.device))


def step(data: Path, width: float, batch: int, options: argparse.Namespace) -> dict[str, object]:
    """One optimiser step, the batch being there: the row of a network."""
    trainer = create_trainer(
        data, *("--width", str(width), "--batch", str(batch), "--device", options.device)
    )
    images = next(train.create_stream(trainer))
    times = []
    for index in range(WARM_UP + options.steps):
        start = time.perf_counter()
        trainer.step([images])  # waits for the GPU: it returns the losses as numbers
        if index >= WARM_UP:
            times.append(time.perf_counter() - start)
    ms = milliseconds(times)
    return {"width": f"{width:g}", "batch": batch, "ms": ms, "images_s": 1e3 * batch / ms}


def throughput(data: Path, workers: int, images: int) -> dict[str, object]:
    """The loader alone; its workers have started before the clock does."""
    batch = 8
    trainer = create_trainer(
        data, *("--width", "0.25", "--batch", str(batch), "--workers", str(workers)),
        *("--iterations", str(images // batch + max(1, workers))),
    )  # fmt: skip
    stream = train.create_stream(trainer)
    for _ in range(max(1, workers)):  # one of each worker
        next(stream)
    start = time.perf_counter()
    count = sum(len(part.names) for part in stream)
    return {"workers": workers, "images_s": count / (time.perf_counter() - start)}


def step_table(rows: list[dict[str, object]], options: argparse.Namespace) -> Table:
    text = (
        f"One iteration with loss, gradients and SGD, fp32 on a CPU, {options.threads} threads, "
        f"device {options.device}; without loading images. Median of {options.steps}."
    )
    columns = {
        "width": "`width`",
        "batch": "batch size",
        "ms": "ms per iteration",
        "images_s": "images per second",
    }
    return Table("Training step", text, columns, rows)


def pipeline_table(rows: list[dict[str, object]], options: argparse.Namespace) -> Table:
    text = (
        f"Reading, decoding and augmenting (`--augment ssd`) JPEG images of {SIZE[0]}×{SIZE[1]} "
        f"with {OBJECTS} objects into batches, {options.images} images; no network runs."
    )
    columns = {"workers": "`--workers`", "images_s": "images per second"}
    return Table("Training data pipeline", text, columns, rows)


if __name__ == "__main__":
    sys.exit(main())
