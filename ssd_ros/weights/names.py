# SPDX-License-Identifier: Apache-2.0
"""Weights that have a name instead of a path."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssd_ros.weights.weights import WeightsError

if TYPE_CHECKING:
    from tqdm import tqdm

    from ssd_ros.weights.download import Progress

DEMO = "demo"
COCO = "coco"


@dataclass(frozen=True)
class NamedWeights:
    """Published or bundled weights.

    Attributes:
        text: what they are, and what they know.
        file: the file's name.
        url: where the file is downloaded from; empty for a bundled file.
        sha256: the first digits of the file's SHA-256.
    """

    text: str
    file: str
    url: str = ""
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Where the file is, or will be: downloads are shared with torch.hub."""
        if not self.url:
            return Path(__file__).with_name(self.file)
        cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = os.path.expanduser(os.environ.get("TORCH_HOME", f"{cache}/torch"))
        return Path(home, "hub", "checkpoints", self.file)


NAMED = {
    DEMO: NamedWeights(
        "bundled with ssd_ros, for the demo: cat, cup, motorbike, person, rocket",
        "demo.safetensors",
    ),
    COCO: NamedWeights(
        "torchvision's ssd300_vgg16, trained on COCO: 80 classes of everyday objects",
        "ssd300_vgg16_coco-b556d3b4.pth",
        "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth",
        "b556d3b4",
    ),
}


def resolve(weights: str | Path) -> Path:
    """The file that a name or a path stands for; it is downloaded where it has to be.

    Progress goes to the standard error output: a bar on a terminal, else lines.

    Raises:
        WeightsError: the download failed; the message says what to do.
    """
    name = str(weights)
    if missing(name):
        from tqdm import tqdm

        print(f"downloading {NAMED[name].url} to {NAMED[name].path}", file=sys.stderr)
        with tqdm(desc=name, unit="B", unit_scale=True, disable=None) as bar:
            download(name, _Bar(bar))
    if name in NAMED:
        return NAMED[name].path
    return Path(os.path.expanduser(weights)).absolute()  # errors then tell the folder, too


def missing(weights: str) -> bool:
    """Whether this is the name of weights that have to be downloaded first."""
    # os.path: Path.exists raises where a folder may not be read.
    return weights in NAMED and bool(NAMED[weights].url) and not os.path.exists(NAMED[weights].path)


def download(
    name: str, report: Callable[[Progress], object], stopped: Callable[[], bool] = lambda: False
) -> None:
    """Downloads named weights, unless they are there.

    Args:
        report, stopped: see `download.Download`.

    Raises:
        WeightsError: the download failed; the message says what to do.
    """
    # Not imported by all who read weights: HTTP and TLS take time and memory.
    from ssd_ros.weights.download import Download, DownloadError, fetch

    named = NAMED[name]
    try:
        fetch(Download(named.url, named.path, named.sha256, report, stopped))
    except DownloadError as error:
        raise WeightsError(
            f"weights '{name}': downloading {named.url} failed: {error}. Try again with a network, "
            f"or put that file at {named.path}, or use '{DEMO}', the bundled weights, or a file"
        ) from None


class _Bar:
    """Shows progress as a bar, where that is enabled, else as a line for every tenth."""

    def __init__(self, bar: tqdm[None]) -> None:
        self._bar = bar
        self._shown = ""

    def __call__(self, progress: Progress) -> None:
        if not self._bar.disable and not progress.waiting:
            self._bar.total = progress.total
            self._bar.update(progress.done - self._bar.n)
            return
        tenth = f"{10 * progress.done // progress.total}" if progress.total else str(progress)
        if tenth != self._shown:
            self._shown = tenth
            print(f"downloading: {progress}", file=sys.stderr)
