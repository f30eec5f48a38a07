# SPDX-License-Identifier: Apache-2.0
"""Image files: what is read from them, and errors that name them."""

import io
import os
import resource
import struct
import zlib

import cv2
import numpy as np
import pytest
from made_images import jpeg_of_many_scans
from PIL import Image as PillowImage
from PIL import ImageOps, features

from ssd_ros import png
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


def test_sizes_come_from_headers_and_are_those_of_what_is_read(tmp_path):
    exif = PillowImage.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        for name in ("a.jpg", "a.png", "a.webp", "a.tiff", "a.bmp"):
            path = tmp_path / name
            PillowImage.fromarray(PIXELS).save(path, exif=exif)
            assert image_files.read_size(path) == image_files.read(path).shape[1::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg"])
def test_images_are_turned_upright_by_their_exif_orientation(tmp_path, name, orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    image = PillowImage.fromarray(np.kron(np.eye(3, 2, dtype=np.uint8) * 255, np.ones((16, 16))))
    image = image.convert("RGB")
    image.putpixel((40 % image.width, 0), (255, 0, 0))
    image.save(tmp_path / name, exif=exif, quality=100)
    with PillowImage.open(tmp_path / name) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    read = image_files.read(tmp_path / name)[..., ::-1]
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 3


def test_what_would_take_all_memory_or_never_end_is_refused_at_once(tmp_path):
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("zero.png", "pipe.png"):
        with pytest.raises(ImageError, match=rf"{name}': not a regular file"):
            image_files.read(tmp_path / name)
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ImageError, match=r"sparse\.png': 2147483648 bytes, expected at most"):
        image_files.read(tmp_path / "sparse.png")
    for side in (30_000, 12_000):
        data = bytearray(cv2.imencode(".png", PIXELS)[1].tobytes())
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        (tmp_path / "large.png").write_bytes(data)
        with pytest.raises(ImageError, match=r"large\.png'.* pixels"):
            image_files.read(tmp_path / "large.png")


def test_a_jpeg_that_takes_too_long_to_decode_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_of_many_scans(4000, 4000, 100))
    with pytest.raises(ImageError, match=r"a\.jpg': JPEG of 4000x4000 has 100 scans, expected at"):
        image_files.read(path)


@pytest.mark.parametrize("suffix", [".jfif", ".JFIF", ".gif", ".avif"])
def test_less_usual_suffixes_are_images_too(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this version of Pillow has no AVIF")
    smooth = cv2.resize(PIXELS[:2, :3], (60, 40), interpolation=cv2.INTER_LINEAR)
    kind = {".gif": "GIF", ".avif": "AVIF"}.get(suffix, "JPEG")
    PillowImage.fromarray(smooth[..., ::-1]).save(tmp_path / f"a{suffix}", kind, quality=95)
    (path,) = image_files.find([tmp_path])
    assert np.abs(image_files.read(path).astype(int) - smooth).mean() < 8
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ImageError, match=rf"a\{suffix}'"):
        image_files.read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_upright_as_other_formats(tmp_path, orientation):
    if not features.check("avif"):
        pytest.skip("this version of Pillow has no AVIF")
    smooth = cv2.resize(PIXELS[:2, :3], (60, 40), interpolation=cv2.INTER_LINEAR)
    for name in ("a.avif", "a.jpg"):
        exif = PillowImage.Exif()  # Pillow changes it when it saves
        exif[0x0112] = orientation
        PillowImage.fromarray(smooth).save(tmp_path / name, quality=95, exif=exif)
    avif, jpeg = (image_files.read(tmp_path / name).astype(int) for name in ("a.avif", "a.jpg"))
    assert np.abs(avif - jpeg).mean() < 5
    expected = image_files.read_view(tmp_path / "a.jpg")
    assert image_files.read_view(tmp_path / "a.avif") == expected
    assert expected[0] == jpeg.shape[1::-1]


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_whole_up_to_its_end_marker(tmp_path, progressive):
    exif = PillowImage.Exif()
    preview = io.BytesIO()
    PillowImage.fromarray(PIXELS).save(preview, "JPEG")
    exif[0x927C] = preview.getvalue()  # with an end marker of its own
    file, path = io.BytesIO(), tmp_path / "a.jpg"
    image = PillowImage.fromarray(np.tile(PIXELS, (5, 5, 1)))
    image.save(file, "JPEG", exif=exif, progressive=progressive)
    data = file.getvalue()
    for padding in (b"", b"\0" * 10_000, b"\xff\xe0 a video of the same moment"):
        path.write_bytes(data + padding)
        assert image_files.read(path).shape == (100, 150, 3)
    for length in (len(data) - 2, len(data) - 500, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(ImageError, match=rf"a\.jpg': JPEG of {length} bytes is cut off"):
            image_files.read(path)


def test_a_png_with_a_broken_colour_profile_is_read_without_a_word(tmp_path, capfd):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    PillowImage.fromarray(pixels).save(path, icc_profile=b"no profile" * 30)
    assert b"iCCP" in path.read_bytes()
    np.testing.assert_array_equal(image_files.read(path), pixels[..., ::-1])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16"])
def test_what_a_png_says_besides_its_pixels_is_read_without_a_word(tmp_path, mode, capfd):
    """Each is one that libpng warns of: wrong, of a wrong length, or with a wrong checksum."""
    path, file = tmp_path / "a.png", io.BytesIO()
    levels = np.random.default_rng(0).integers(0, 256, (9, 11), dtype=np.uint8)
    wide = PillowImage.fromarray(levels.astype(np.uint16) * 64)
    image = wide if mode == "I;16" else PillowImage.fromarray(levels).convert(mode)
    image.save(file, "PNG")
    whole = file.getvalue()
    path.write_bytes(whole)
    expected = image_files.read(path)
    kinds = (b"sRGB", b"sBIT", b"pHYs", b"gAMA", b"tIME", b"zTXt", b"eXIf")
    extras = b"".join(bytes((0, 0, 0, 1)) + kind + b"\x99\0\0\0\0" for kind in kinds)
    path.write_bytes(whole[:33] + extras + whole[33:-12] + extras + whole[-12:])
    np.testing.assert_array_equal(image_files.read(path), expected)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("claimed", [10_000, 2**31, 2**32 - 1])
def test_a_png_that_claims_more_than_it_has_costs_no_memory(tmp_path, claimed):
    path, file = tmp_path / "a.png", io.BytesIO()
    PillowImage.fromarray(np.zeros((48, 64, 3), np.uint8)).save(file, "PNG")
    data = file.getvalue()
    path.write_bytes(data[:33] + claimed.to_bytes(4, "big") + data[37:])  # the first IDAT
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ImageError, match=rf"a\.png': PNG of .* chunk at byte 33 has {claimed + 12}"
    ):
        image_files.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < used + 100_000  # kB


def test_a_png_of_endless_chunks_is_refused(tmp_path):
    path, file = tmp_path / "a.png", io.BytesIO()
    PillowImage.fromarray(np.zeros((48, 64, 3), np.uint8)).save(file, "PNG")
    data = file.getvalue()
    path.write_bytes(data[:33] + (bytes(4) + b"teXt" + bytes(4)) * png.MAX_CHUNKS + data[33:])
    with pytest.raises(ImageError, match=r"a\.png': PNG has more than 100000 chunks"):
        image_files.read(path)
