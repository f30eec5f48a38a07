# SPDX-License-Identifier: Apache-2.0
"""Sinks of detections: a JSON file, a folder of annotated images, lines of text."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ssd_ros import atomic
from ssd_ros.detections import Detections
from ssd_ros.drawing import annotate
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.io.sources import Frame


class Sink(Protocol):
    """Takes the detections of frames. Files appear at `commit`, complete; none without it."""

    def write(self, frame: Frame, image: Image, detections: Detections) -> None:
        """Adds one frame. Raises OSError if it cannot be stored."""

    def commit(self) -> None:
        """Makes everything written visible. Raises OSError if it cannot be stored."""

    def close(self) -> None:
        """Discards what was not committed; called once, also after an error."""


class JsonFile:
    """One JSON file: a list with an entry for each frame, see `as_json`.

    Args:
        path: of the file, or `-` for the standard output; missing folders are made.
        classes: class names by label.

    Raises:
        OSError: the file could not be written.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        atomic.check_writable(path)
        self._path = path
        self._classes = classes
        self._entries: list[dict[str, Any]] = []

    def write(self, frame: Frame, image: Image, detections: Detections) -> None:
        self._entries.append(as_json(frame.name, image, detections, self._classes))

    def commit(self) -> None:
        text = json.dumps(self._entries, indent=1, ensure_ascii=False)
        # A file name that is not UTF-8 has surrogates, which JSON can only hold escaped.
        atomic.write(self._path, text.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        self._entries.clear()


class AnnotatedImages:
    """A folder of annotated JPEG images, named as the frames. Other files in it stay.

    The images wait in a hidden folder inside for their commit: on the same file system, so that
    moving them cannot fail half-way for lack of space.

    Args:
        folder: made if it is missing; `close` removes it again if nothing was committed.
        classes: class names by label.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder = folder
        self._classes = classes
        self._frames: dict[str, str] = {}  # file name -> name of its frame
        self._made_folder = not folder.exists()
        atomic.make_folder(folder)
        self._waiting = Path(tempfile.mkdtemp(dir=folder, prefix=".part."))

    def reserve(self, frame: Frame) -> str:
        """The name of a frame's file. Call it before detection, to learn of a conflict early.

        Raises:
            FileExistsError: another frame has the same file name, or the frame's own file is in the
                folder: its annotated copy could replace it, and would be an input the next time.
        """
        path = Path(frame.name)
        if path.parent.resolve() == self._folder.resolve():
            raise FileExistsError(
                f"'{frame.name}' is in the folder for the annotated images, expected another folder"
            )
        number = path.suffix.partition("#")[2]  # of a frame of a video
        file = f"{path.stem}_{number}.jpg" if number else f"{path.stem}.jpg"
        other = self._frames.setdefault(file, frame.name)
        if other != frame.name:
            raise FileExistsError(f"'{other}' and '{frame.name}' would both be drawn to '{file}'")
        return file

    def write(self, frame: Frame, image: Image, detections: Detections) -> None:
        file = self.reserve(frame)
        image_files.write(self._waiting / file, annotate(image, detections, self._classes))

    def commit(self) -> None:
        for path in sorted(self._waiting.iterdir()):
            os.replace(path, self._folder / path.name)
            self._made_folder = False

    def close(self) -> None:
        shutil.rmtree(self._waiting, ignore_errors=True)
        if self._made_folder:
            with contextlib.suppress(OSError):  # somebody else may have put a file there
                self._folder.rmdir()


class TextLines:
    """A line for each detection, at once: text on a terminal cannot wait for a commit.

    Args:
        print_line: called with each line.
        classes: class names by label.
    """

    def __init__(self, print_line: Callable[[str], object], classes: Sequence[str]) -> None:
        self._print_line = print_line
        self._classes = classes

    def write(self, frame: Frame, image: Image, detections: Detections) -> None:
        entries = as_json(frame.name, image, detections, self._classes)["detections"]
        for entry in entries:
            box = " ".join(f"{value:6.1f}" for value in entry["box"])
            self._print_line(f"{frame.name}  {entry['class']:<15} {entry['score']:.3f}  {box}")
        if not entries:
            self._print_line(f"{frame.name}  no detections")

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass


def as_json(
    name: str, image: Image, detections: Detections, classes: Sequence[str]
) -> dict[str, Any]:
    """One frame's detections as plain values; boxes are x1 y1 x2 y2 in pixels."""
    return {
        "file": name,
        "width": image.width,
        "height": image.height,
        "detections": [
            {"class": classes[label], "score": score, "box": box}
            for box, score, label in zip(
                detections.boxes.tolist(),
                detections.scores.tolist(),
                detections.labels.tolist(),
                strict=True,
            )
        ],
    }
