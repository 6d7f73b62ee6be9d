"""Conversions that change the meaning of pixels: applied, or printed at each start."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms, PngImagePlugin
from tiny import tiny_config

from diffusion_jax.config.named_configs import get_config
from diffusion_jax.data import dataset_summary, make_source, pixel_notes, preparation
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.evaluation.image_sets import from_files
from diffusion_jax.generation.input_images import read_images
from diffusion_jax.runs.datasets import mirror_note, open_source

ORIENTATION = 0x0112


def picture(width=8, height=8, mode="RGB", seed=0):
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


def profile_of(red, green, blue, gamma=2.2):
    """An ICC profile of three corners on the curve of a gamma, from its specification."""

    def number(value):
        return round(value * 65536).to_bytes(4, "big", signed=True)

    def xyz(values):
        return b"XYZ " + bytes(4) + b"".join(map(number, values))

    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big")
    data = {
        b"rXYZ": xyz(red),
        b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve + bytes(2)),
    }
    table, content, start = b"", b"", 128 + 4 + 12 * len(data)
    for tag, value in data.items():
        place = start + len(content)
        table += tag + place.to_bytes(4, "big") + len(value).to_bytes(4, "big")
        content += value
    header = bytearray(128)
    header[0:4] = (start + len(content)).to_bytes(4, "big")
    header[8:12] = b"\x02\x10\x00\x00"
    header[12:24] = b"mntrRGB XYZ "
    header[36:40] = b"acsp"
    header[68:80] = number(0.9642) + number(1.0) + number(0.8249)
    return bytes(header) + len(data).to_bytes(4, "big") + table + content


# The corners of sRGB, adapted to D50.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
EXCHANGED = profile_of(GREEN, RED, BLUE)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def opened(folder, tmp_path, **options):
    options = {"split": "train", "resolution": 8, "channels": 3, **options}
    dataset_summary._PRINTED.clear()  # as in a new process
    return make_source(f"folder:{folder}", cache_dir=str(tmp_path / "cache"), **options)


def first_image(source):
    return source.read(np.array([0]))["image"][0]


def test_color_profile_is_applied_or_printed_at_each_start(tmp_path, capsys):
    stored = picture()
    for name in ("a.png", "b.png"):
        save(tmp_path / "f" / name, stored, icc_profile=EXCHANGED)
    save(tmp_path / "f" / "c.png", stored)
    line = (
        "Used as stored, ignoring a color profile or gamma other than sRGB: 2 of 3 images, such as "
        "a.png; data.srgb=True applies it"
    )
    for _ in range(2):  # the second time, the images are not decoded
        source = opened(tmp_path / "f", tmp_path)
        assert_array_equal(first_image(source), stored)
        assert capsys.readouterr().out.splitlines().count(line) == 1
    assert source.description.provenance()["notes"] == [line]
    (folder,) = (tmp_path / "cache").glob("*/dataset.json")
    assert json.loads(folder.read_text())["notes"] == [line]
    copied = make_source(f"prepared:{folder.parent}", split="train")
    assert line in capsys.readouterr().out
    assert copied.description == source.description

    source = opened(tmp_path / "f", tmp_path, srgb=True)
    exchanged = np.asarray(stored)[..., [1, 0, 2]]
    # The profile has a gamma of 2.2 in place of the curve of sRGB.
    assert_allclose(first_image(source), exchanged, atol=10)
    assert_array_equal(source.read(np.array([2]))["image"][0], stored)
    assert "Converted to sRGB" in capsys.readouterr().out
    assert source.description.origin["srgb"] == "yes"


def test_sRGB_profiles_change_no_pixel(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        save(tmp_path / name, picture(), icc_profile=SRGB)
    save(tmp_path / "c.png", picture(mode="L"), icc_profile=SRGB)
    for channels in (1, 3):
        plain = Decoder(channels)
        decode = Decoder(channels, srgb=True)
        for name in ("a.png", "b.png", "c.png"):
            assert_array_equal(decode(tmp_path / name), plain(tmp_path / name))
        assert plain.notes.take() == decode.notes.take() == {}


def test_other_kinds_of_profiles(tmp_path):
    gray, color = picture(mode="L"), picture(mode="RGBA")
    wide = profile_of(RED, GREEN, BLUE, gamma=1.0)
    decode = Decoder(3, srgb=True, convert=True)
    # A gray image with a profile for RGB: linear light becomes brighter.
    bright = np.asarray(decode(save(tmp_path / "a.png", gray, icc_profile=wide)), float)
    assert bright.mean() > np.asarray(gray, float).mean() + 20
    # Transparency is composited after the conversion.
    color.putalpha(0)
    assert np.asarray(decode(save(tmp_path / "b.png", color, icc_profile=EXCHANGED))).min() == 255
    # A profile of another color space, and one that is damaged.
    plain = decode(save(tmp_path / "c.png", picture()))
    for number, profile in enumerate([b"damaged", EXCHANGED.replace(b"RGB XYZ ", b"CMYKXYZ ")]):
        path = save(tmp_path / f"{number}.png", picture(), icc_profile=profile)
        decode.notes.take()
        assert_array_equal(decode(path), plain)
        assert list(decode.notes.take()) == ["profile unreadable"]
    cmyk = save(tmp_path / "d.tif", picture(mode="CMYK"))
    decode(cmyk)
    assert list(decode.notes.take()) == ["space"]


def test_gamma_of_a_png_is_applied_or_counted(tmp_path):
    def with_gamma(gamma, **chunks):
        info = PngImagePlugin.PngInfo()
        info.add(b"gAMA", round(gamma * 100_000).to_bytes(4, "big"))
        for name, content in chunks.items():
            info.add(name.encode(), content)
        return save(tmp_path / "a.png", picture(), pnginfo=info)

    decode, plain = Decoder(3, srgb=True), Decoder(3)
    light = np.asarray(picture()) / 255
    path = with_gamma(1.0)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert_allclose(np.asarray(decode(path)), 255 * encoded, atol=0.5)
    assert_array_equal(plain(path), picture())
    assert list(plain.notes.take()) == ["colors ignored"]
    for path in (with_gamma(0.45455), with_gamma(1.0, sRGB=b"\0")):
        assert_array_equal(decode(path), picture())
        plain(path)
    assert plain.notes.take() == {}


def test_exif_orientation_is_printed_at_each_start(tmp_path, capsys):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "f" / "a.png", picture(), exif=exif)
    for _ in range(2):
        assert_array_equal(first_image(opened(tmp_path / "f", tmp_path)), picture())
        said = capsys.readouterr().out
        assert "ignoring the EXIF orientation: 1 of 1 images, such as a.png; data.upright" in said
    for _ in range(2):
        turned = first_image(opened(tmp_path / "f", tmp_path, upright=True))
        assert_array_equal(turned, np.rot90(picture(), -1))
        assert "Rotated by the EXIF orientation: 1 of 1" in capsys.readouterr().out


def test_tiff_files_are_always_rotated(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / "a.tif", picture(), exif=exif)
    for upright in (False, True):
        decode = Decoder(3, upright=upright)
        assert_array_equal(decode(path), np.rot90(picture(), -1))
        assert list(decode.notes.take()) == ["orientation"]


def test_used_bits_of_deep_images(tmp_path, capsys):
    levels = np.array([[0, 2048, 4095, 1000]], np.uint16).repeat(4, axis=0)
    for name, image in (("a.png", levels), ("b.png", levels // 4), ("c.tif", levels)):
        save(tmp_path / "f" / name, Image.fromarray(image))
    options = {"channels": 1, "convert": True, "resolution": 4}
    for _ in range(2):
        dark = first_image(opened(tmp_path / "f", tmp_path, **options))
        assert dark.max() == 16
        said = capsys.readouterr().out
        assert (
            "only 12 are used, so the images are dark: 3 of 3 images, such as a.png; data.bits=12"
            in said
        )
    source = opened(tmp_path / "f", tmp_path, bits=12, **options)
    assert_array_equal(first_image(source)[0, :, 0], [0, 128, 255, 62])
    assert "Scaled from 12 bits per channel to 8: 3 of 3" in capsys.readouterr().out
    assert source.description.origin["bits"] == "12"
    with pytest.raises(ValueError, match=r"the level 4095, above 1023 \(data\.bits\)"):
        opened(tmp_path / "f", tmp_path, bits=10, **options)
    with pytest.raises(ValueError, match=r"data\.bits=0 must be in 1 \.\.\. 16"):
        opened(tmp_path / "f", tmp_path, bits=0)


def png_of_16_bits(level):
    """A PNG of one pixel with this level in three channels."""

    def chunk(name, content):
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + level.to_bytes(2, "big") * 3)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_levels_of_deep_files_of_other_kinds(tmp_path):
    """A PGM states its white; a color PNG is read by Pillow without its lower bits."""
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 4095\n" + bytes([0x0F, 0xFF, 0x08, 0x00]))
    decode = Decoder(1, convert=True)
    assert_array_equal(decode(tmp_path / "a.pgm"), [[255, 128]])
    assert list(decode.notes.take()) == ["gray 16 of 16"]
    (tmp_path / "b.png").write_bytes(png_of_16_bits(0x0FFF))
    decode = Decoder(3, convert=True)
    assert_array_equal(decode(tmp_path / "b.png"), [[[15, 15, 15]]])
    assert list(decode.notes.take()) == ["color 12 of 16"]
    (line,) = pixel_notes.lines({"color 12 of 16": (1, "b.png")}, 1)
    assert "only 12 are used" in line
    assert "data.bits" not in line
    with pytest.raises(ValueError, match=r"data\.bits=12 is for gray images"):
        Decoder(3, convert=True, bits=12)(tmp_path / "b.png")


def test_all_conversions_are_counted_through_an_interruption(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preparation, "PART_BYTES", 0)  # 16 files a part
    for number in range(40):
        save(tmp_path / "f" / f"{number:02}.png", picture(mode="RGBA", seed=number))
    (tmp_path / "f" / "20.png").write_text("no image")
    with pytest.raises(ValueError, match="Decoded images are kept"):
        opened(tmp_path / "f", tmp_path, convert=True)
    frames = [picture(mode="L", seed=seed) for seed in range(3)]
    save(tmp_path / "f" / "20.png", frames[0], save_all=True, append_images=frames[1:])
    opened(tmp_path / "f", tmp_path, convert=True)
    lines = capsys.readouterr().out.splitlines()
    assert "Composited on white where transparent: 39 of 40 images, such as 00.png" in lines
    assert "Reduced to the first of several frames: 1 of 40 images, such as 20.png" in lines


def test_edited_images_are_upright_and_in_srgb(tmp_path, capsys):
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    path = save(tmp_path / "a.png", picture(), exif=exif, icc_profile=EXCHANGED)
    (image,) = read_images(path, side=8, channels=3)
    assert_allclose(image, np.asarray(picture())[::-1, ::-1, [1, 0, 2]], atol=10)
    said = capsys.readouterr().out
    assert "Rotated by the EXIF orientation: 1 of 1" in said
    assert "Converted to sRGB" in said


def test_evaluated_folders_report_orientation_and_profiles(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(tmp_path / "f" / "a.png", picture(), exif=exif, icc_profile=EXCHANGED)
    save(tmp_path / "f" / "b.png", picture())
    for _ in range(2):
        images = from_files(tmp_path / "f", None, 3)
        assert "ignoring the EXIF orientation: 1 of 2 images, such as a.png" in images.note
        assert "ignoring a color profile or gamma other than sRGB: 1 of 2" in images.note
        assert "data." not in images.note
        assert_array_equal(images.read(0, 1)[0], picture())


def test_fields_of_the_config_change_pixels_and_labels(tmp_path):
    """data.srgb, data.bits and data.labels reach the source; without data.flip nothing is said."""
    save(tmp_path / "f" / "cat_1.png", picture(), icc_profile=EXCHANGED)
    save(tmp_path / "f" / "dog_2.png", Image.fromarray(np.full((8, 8), 4095, np.uint16)))
    common = {
        "data__name": f"folder:{tmp_path / 'f'}",
        "data__split": "train",
        "data__cache_dir": str(tmp_path / "cache"),
        "data__convert": True,
        "model__channels": 3,
        "batch_size": 2,
    }

    def opened_with(**changes):
        classes = 2 if "data__labels" in changes else 0
        config = tiny_config(**common, **changes, model__num_classes=classes)
        assert mirror_note(config) == []
        return open_source(config)

    plain = opened_with()
    converted = opened_with(data__srgb=True)
    scaled = opened_with(data__bits=12)
    assert np.abs(first_image(plain).astype(int) - first_image(converted)).max() > 50
    assert [source.read(np.array([1]))["image"].max() for source in (plain, scaled)] == [16, 255]
    assert opened_with(data__labels="prefix").class_names == ["cat", "dog"]


@pytest.mark.parametrize("name", ["folder", "folder:small"])
def test_configs_of_own_images_turn_photographs_and_convert_colors(name):
    data = get_config(name).data
    assert (data.upright, data.srgb, data.flip) == (True, True, True)


def test_profile_of_the_tests_is_read_as_meant():
    profile = ImageCms.ImageCmsProfile(io.BytesIO(EXCHANGED))
    red = Image.new("RGB", (1, 1), (200, 0, 0))
    green = ImageCms.profileToProfile(red, profile, ImageCms.createProfile("sRGB"))
    assert green.getpixel((0, 0))[1] > 190
    assert green.getpixel((0, 0))[0] < 10
