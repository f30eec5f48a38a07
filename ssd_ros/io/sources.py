# SPDX-License-Identifier: Apache-2.0
"""Sources of images: files, folders, videos, webcams and streams, all iterated the same way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2

from ssd_ros.bit_depth import PERCENTILES
from ssd_ros.image import Image, ImageError
from ssd_ros.io import image_files

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"))


@dataclass(frozen=True)
class Frame:
    """One frame of a source, not decoded yet.

    Attributes:
        name: the image file's path, or the video's with the frame's number: `video.mp4#000003`.
        stamp_ns: when it was captured, in nanoseconds since 1970; None if the source does not know.
        frame_id, topic: as in ROS; empty if the source has none.
        read: decodes and returns the image; raises ImageError, which concerns only this frame.
            Call it before the next frame is taken from the source, because a video moves on.
    """

    name: str
    stamp_ns: int | None
    frame_id: str
    topic: str
    read: Callable[[], Image]


class Source(Protocol):
    """Frames in order. A source whose number of frames is known has a `__len__` as well."""

    def __iter__(self) -> Iterator[Frame]: ...


class ImageFiles:
    """Image files, and folders of them.

    Args:
        paths: see `image_files.find`.
        loop: restart at the end, without limit.
        mono16_range: see `image_files.read`.

    Raises:
        FileNotFoundError: a path does not exist, or a folder holds no image.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        loop: bool = False,
        mono16_range: str = PERCENTILES,
    ) -> None:
        self._files = image_files.find(paths)
        self._mono16_range = mono16_range
        self._loop = loop

    def __len__(self) -> int:
        """Number of files, each counted once."""
        return len(self._files)

    def __iter__(self) -> Iterator[Frame]:
        for path in itertools.cycle(self._files) if self._loop else self._files:
            yield Frame(str(path), None, "", "", partial(_read_file, path, self._mono16_range))


class Video:
    """A video file, webcam or stream, by OpenCV.

    Args:
        source: a video file, the number of a webcam, /dev/videoN, or a stream's address.
        loop: restart at the end, without limit; of files only.

    Raises:
        FileNotFoundError: the name is that of a video file, which does not exist.
        OSError: OpenCV cannot open the source.
    """

    def __init__(self, source: str | Path, loop: bool = False) -> None:
        self._source = str(source)
        path = Path(source)
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.exists():
            raise FileNotFoundError(f"no such video: '{source}'")
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_file():
            raise OSError(f"cannot open video '{source}': not a regular file")
        self._loop = loop and path.is_file()
        # Opened here, so that a wrong source is this call's error; the first iteration uses it.
        self._opened: cv2.VideoCapture | None = _open(self._source)

    def __iter__(self) -> Iterator[Frame]:
        while True:
            capture, self._opened = self._opened or _open(self._source), None
            count = 0
            try:
                for frame in _grab(capture, self._source):
                    yield frame
                    count += 1
            finally:
                capture.release()
            if not (self._loop and count):
                return


class Chain:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def __iter__(self) -> Iterator[Frame]:
        return itertools.chain.from_iterable(self._sources)


def open_source(source: str, loop: bool = False) -> Source:
    """Anything that can be named by one text: a folder, an image, a video, a webcam or a stream.

    Args:
        loop: restart files at the end, without limit.

    Raises:
        OSError: there is no such source, or it cannot be opened.
    """
    path = Path(source)
    if path.is_dir() or path.suffix.lower() in image_files.SUFFIXES:
        return ImageFiles([path], loop)
    return Video(source, loop)


def open_files(paths: Sequence[str | Path], mono16_range: str = PERCENTILES) -> Source:
    """Files and folders in the order given: videos by their suffix, all others as images.

    Args:
        mono16_range: see `image_files.read`.

    Raises:
        OSError: a path does not exist, holds no image, or is a video that cannot be opened.
    """

    def is_video(path: str | Path) -> bool:
        return Path(path).suffix.lower() in VIDEO_SUFFIXES and not Path(path).is_dir()

    sources: list[Source] = []
    for videos, group in itertools.groupby(paths, key=is_video):
        files = list(group)
        sources += map(Video, files) if videos else [ImageFiles(files, mono16_range=mono16_range)]
    return sources[0] if len(sources) == 1 else Chain(sources)


def _read_file(path: Path, mono16_range: str) -> Image:
    return Image(image_files.read(path, mono16_range), "bgr")


def _open(source: str) -> cv2.VideoCapture:
    try:
        source.encode()
    except UnicodeEncodeError:  # the process would crash in OpenCV
        raise OSError(f"cannot open source {source!r}: its name is not UTF-8") from None
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise OSError(
            f"cannot open source '{source}': not an image folder, video, camera or stream"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a webcam's newest image, not its oldest
    return capture


def _grab(capture: cv2.VideoCapture, source: str) -> Iterator[Frame]:
    current = ""

    def read(name: str) -> Image:
        if name != current:  # OpenCV would return the current frame instead
            raise ImageError(f"'{name}' must be read before the next frame is taken")
        decoded, pixels = capture.retrieve()
        if not decoded:
            raise ImageError(f"cannot decode '{name}'")
        return Image(pixels, "bgr")

    for number in itertools.count():
        if not capture.grab():
            return
        current = f"{source}#{number:06}"
        yield Frame(current, None, "", "", partial(read, current))
