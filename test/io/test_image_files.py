# SPDX-License-Identifier: Apache-2.0
"""Image files: what is read from them, and errors that name them."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from ssd_ros.image import ImageError
from ssd_ros.io import image_files

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_what_is_written_is_read_in_new_folders_too(tmp_path):
    path = tmp_path / "new" / "a.png"
    image_files.write(path, PIXELS)
    np.testing.assert_array_equal(image_files.read(path), PIXELS)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_a_photograph_is_turned_upright_as_its_exif_says(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to see it upright
    file = io.BytesIO()
    PillowImage.fromarray(PIXELS).save(file, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert image_files.read(tmp_path / "a.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png'"):
        image_files.read(path)


def test_a_format_that_cannot_be_written_is_an_error_without_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot encode image '.*a\.xyz'"):
        image_files.write(tmp_path / "a.xyz", PIXELS)
    assert list(tmp_path.iterdir()) == []
