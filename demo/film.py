# SPDX-License-Identifier: Apache-2.0
"""An animation of annotated images: python -m demo.film demo_out film.webp

Made for README: an animated WebP that is small enough for a web page.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ssd_ros import atomic
from ssd_ros.io import image_files

QUALITIES = range(75, 15, -10)  # tried in this order until the file is small enough


def encode(frames: Sequence[Image.Image], rate: float, quality: int) -> bytes:
    """The frames as an animated WebP that repeats forever, `rate` frames per second."""
    file = io.BytesIO()
    frames[0].save(
        file,
        "WebP",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / rate),
        loop=0,
        quality=quality,
        method=6,
    )
    return file.getvalue()


def smallest_loss(frames: Sequence[Image.Image], rate: float, limit: int) -> bytes:
    """The animated WebP of the best quality that has at most `limit` bytes.

    Raises:
        ValueError: the lowest quality needs more.
    """
    for quality in QUALITIES:
        data = encode(frames, rate, quality)
        if len(data) <= limit:
            return data
    raise ValueError(
        f"{len(frames)} frames of {frames[0].width}x{frames[0].height} need {len(data)} bytes at "
        f"the lowest quality, expected at most {limit}: use a smaller --width or fewer images"
    )


def read_frame(file: Path, width: int) -> Image.Image:
    """An image of this width; its height follows."""
    with Image.open(file) as image:
        height = round(image.height * width / image.width)
        return image.convert("RGB").resize((width, height))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.film", description=__doc__)
    add = parser.add_argument
    add("images", help="folder of images, such as demo_out; shown in the order of their names")
    add("out", type=Path, help="WebP file to write")
    add("--width", type=int, default=480, help="pixels (default: %(default)s)")
    add("--rate", type=float, default=8.0, help="frames per second (default: %(default)s)")
    add("--limit", type=float, default=1.9, help="size in MB, at most (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        files = image_files.find([options.images])
        frames = [read_frame(file, options.width) for file in files]
        data = smallest_loss(frames, options.rate, int(options.limit * 1e6))
        atomic.write(options.out, data)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(frames)} frames, {len(data) / 1e6:.1f} MB, to '{options.out}'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
