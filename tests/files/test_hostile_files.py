"""Hostile files: each is refused in one line before it takes memory or time."""

import dataclasses
import io
import json
import struct
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import memory
import numpy as np
import nvidia_pickles
import pytest
from forks import run_each
from memory import MB

from diffusion_jax.data import crops, imagenet, numpy_pickle
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.crops import Crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images, read_folder
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.evaluation import image_sets, references
from diffusion_jax.files import json_files, limits, npz, nvidia_pickle, torch_reader
from diffusion_jax.importers import safetensors
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.workdir.run_files import load_classes

GB = 2**30


def refused(read, message, *, most=64 * MB, seconds=5):
    """Asserts that reading raises a ValueError in one line, with little memory, and soon."""
    start = time.monotonic()
    with memory.at_most(most), pytest.raises(ValueError, match=message) as caught:
        read()
    assert time.monotonic() - start < seconds
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


def zeros_in_zip(path, member, header, count):
    """A zip file whose member is a header, and then `count` bytes that are 0."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        file.write(header)
        for _ in range(count // 2**24):
            file.write(bytes(2**24))
    return path


def header_of(shape, kind="|u1"):
    file = io.BytesIO()
    about = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """Half a GB of images in 2 MB; header and length agree."""
    path = tmp_path_factory.mktemp("bomb") / "a.npz"
    zeros_in_zip(path, "arr_0.npy", header_of((GB // 2048, 32, 32, 1)), GB // 2)
    assert path.stat().st_size < 3 * MB
    return path


@pytest.mark.parametrize(
    "read",
    [
        npz.read,
        lambda path: image_sets.from_files(path, None, 3),
        lambda path: references.load(str(path), "pool"),
    ],
)
def test_zip_bomb_is_refused(bomb, read):
    refused(lambda: read(bomb), r"a\.npz .* unpacks to 536,87\d,\d\d\d bytes from 2,")


def test_small_file_may_unpack_to_many_times_its_length(tmp_path):
    images = np.zeros((1000, 32, 32, 3), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", arr_0=images)
    assert (tmp_path / "a.npz").stat().st_size * limits.ZIP_GROWTH < images.nbytes
    assert npz.read(tmp_path / "a.npz")["arr_0"].shape == images.shape


def test_npy_header_of_missing_numbers_takes_no_memory(tmp_path):
    path = zeros_in_zip(tmp_path / "a.npz", "mu.npy", header_of((GB,), "<f8"), 0)
    refused(lambda: npz.read(path), r"says 8,589,934,592 bytes of numbers .*, and 0 follow")


def test_deeply_nested_npy_header_is_refused(tmp_path):
    for text in (b"(" * 5000, b"-" * 9000 + b"1", b"[" * 9000):
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr("mu.npy", content)
        refused(lambda: npz.read(tmp_path / "a.npz"), "describes no array")


def test_long_list_of_zip_members_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for number in range(400):
            file.writestr(zipfile.ZipInfo(f"{number:05d}" + "x" * 60_000), b"")
    refused(lambda: npz.read(tmp_path / "a.npz"), "list of members has 24,")


def test_bzip2_and_lzma_are_refused(tmp_path):
    """LZMA may ask for 4 GB, and bzip2 unpacks a block of any size."""
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as file:
            file.writestr("mu.npy", header_of((3,)) + bytes(3))
        refused(lambda: npz.read(tmp_path / "a.npz"), "is compressed with method")


def test_members_of_imagenet_zips_have_a_limit(tmp_path):
    source = tmp_path / "zips"
    source.mkdir()
    path = zeros_in_zip(source / "Imagenet64_val.zip", "val_data", b"", GB // 2)
    refused(lambda: imagenet.find_parts(source, "validation"), "unpacks to 536,870,912 bytes")
    labels = header_of((3,), "<i8") + bytes(80_000_000)
    with zipfile.ZipFile(source / "Imagenet64_val.zip", "w") as file:
        data = header_of((3, 12288)) + bytes(3 * 12288)
        file.writestr("val_data.npz", arrays(data=data, labels=labels))
    (part,) = imagenet.find_parts(source, "validation")
    refused(lambda: list(imagenet.read(part, tmp_path)), "says 24 bytes of numbers")
    assert path.is_file()


def arrays(**content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as inner:
        for name, data in content.items():
            inner.writestr(f"{name}.npy", data)
    return file.getvalue()


STRING = 2**24 - 1  # bytes; just not so long that it is spooled to disk


class Strings(io.RawIOBase):
    """A pickle of `count` strings of 16 MB, generated while it is read."""

    def __init__(self, count, length=STRING):
        self.count, self.length, self.left = count, length, b"\x80\x02]("
        self.zeros = 0

    def readable(self):
        return True

    def readinto(self, room):
        if not self.left and not self.zeros and self.count:
            self.count, self.zeros = self.count - 1, self.length
            self.left = b"B" + struct.pack("<I", self.length)
        piece = self.left[: len(room)] or bytes(min(len(room), self.zeros))
        if self.left:
            self.left = self.left[len(piece) :]
        else:
            self.zeros -= len(piece)
        room[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("length", [STRING, 2**24])
def test_strings_of_a_pickle_have_a_total_limit(tmp_path, length):
    stream = io.BufferedReader(Strings(40, length))
    refused(
        lambda: numpy_pickle.read(stream, "a", tmp_path, 40 * length),
        "more than",
        most=160 * MB,
        seconds=20,
    )
    assert not list(tmp_path.iterdir())


def test_repeated_encoding_of_a_string_is_refused(tmp_path):
    text = b"X" + struct.pack("<I", STRING // 2) + b"a" * (STRING // 2)
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    pickled = b"\x80\x02](" + text + b"q\x00" + 1000 * call + b"e."
    stream = io.BytesIO(pickled)
    refused(lambda: numpy_pickle.read(stream, "a", tmp_path), "more than it may", most=200 * MB)


def torch_file(path, pickled):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02" + pickled + b".")
    return path


def test_pickle_opcodes_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PICKLE_OPCODES", 2**12)
    path = torch_file(tmp_path / "a.pt", b"](" + b"]" * 2**14 + b"e")
    refused(lambda: torch_reader.read(path), "more than 4,096 instructions")


def test_exponentially_shared_lists_are_refused(tmp_path):
    """Forty levels of ten times the same list, in a few hundred bytes."""
    level = b"](" + b"h\x00" * 10 + b"eq\x00"
    path = torch_file(tmp_path / "a.pt", b"]q\x00" + level * 40)
    refused(lambda: torch_reader.read(path), "holds more than")


def test_deep_and_circular_values_are_refused(tmp_path):
    path = torch_file(tmp_path / "a.pt", b"]q\x00h\x00a")
    refused(lambda: torch_reader.read(path), "it holds itself")
    path = torch_file(tmp_path / "a.pt", b")" + b"\x85" * 10_000)
    refused(lambda: torch_reader.read(path), "nested more than 64 deep")
    # Each level is reached from the top, too, so that none of them seems deep.
    value, levels = [], []
    for _ in range(2 * limits.TREE_DEPTH):
        value = [value]
        levels.append(value)
    with pytest.raises(ValueError, match="64 deep"):
        limits.check_tree(levels)


def test_string_longer_than_its_file_takes_no_memory(tmp_path):
    """Python allocates the memory before it notices that the file is shorter."""
    pickled = b"\x80\x04\x8e" + struct.pack("<Q", 8 * GB) + b"abc"
    (tmp_path / "a.pkl").write_bytes(pickled)
    for read in (torch_reader.read, lambda path: nvidia_pickle.read(path, "EDMPrecond")):
        refused(lambda read=read: read(tmp_path / "a.pkl"), r"a\.pkl")


def test_repeated_unpacking_of_a_storage_is_refused(tmp_path):
    """The bytes of one storage, named again and again, would be as many arrays."""
    with nvidia_pickles.stand_ins() as names:
        data = nvidia_pickles.storage_bytes(np.zeros(2**20, np.float32), names)
    call = b"ctorch.storage\n_load_from_bytes\nh\x00\x85R"
    pickled = b"\x80\x04](B" + struct.pack("<I", len(data)) + data + b"q\x00" + 500 * call + b"e."
    (tmp_path / "a.pkl").write_bytes(pickled)
    refused(lambda: nvidia_pickle.read(tmp_path / "a.pkl", "EDMPrecond"), "more than it may")


def png(path, width, height, rows=0):
    """Writes a black PNG, cut off after `rows` rows if given."""

    def chunk(kind, data):
        digest = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + digest

    packer, packed = zlib.compressobj(9), []
    for _ in range(rows or height):
        packed.append(packer.compress(bytes(1 + 3 * width)))
    packed.append(packer.flush())
    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", about) + chunk(b"IDAT", b"".join(packed)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_image_with_too_many_pixels_is_refused_before_decoding(tmp_path, side):
    path = png(tmp_path / "a.png", side, side, rows=10)
    refused(lambda: Decoder(3)(path), r"a\.png has .* 134,217,728 .*Make it smaller")


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """Memory does not grow with the number of threads."""
    monkeypatch.setattr(limits, "LARGE_IMAGE_PIXELS", 100)
    path = png(tmp_path / "a.png", 10, 10)
    within, most = [], []

    def crop(image):
        within.append(1)
        most.append(len(within))
        time.sleep(0.05)
        within.pop()
        return image

    decode = Decoder(3, then=crop)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(decode, [path] * 4))
    assert most == [1] * 4
    with ThreadPoolExecutor(4) as executor:
        most.clear()
        list(executor.map(decode, [png(tmp_path / "b.png", 9, 9)] * 4))
    assert max(most) > 1


def test_decoding_takes_at_most_20_bytes_per_pixel(tmp_path):
    path = png(tmp_path / "a.png", 6000, 4000)
    for decode in (Decoder(3), Decoder(1)):
        with memory.at_most(6000 * 4000 * 20):
            assert decode(path).size == (6000, 4000)


@pytest.mark.parametrize("crop", ["center-crop-dhariwal", crops.RANDOM])
def test_enlargement_of_a_narrow_image_has_a_limit(tmp_path, crop):
    path = png(tmp_path / "a.png", 50_000, 1)
    decode = Decoder(3, then=Crop(crop, 64))
    refused(lambda: decode(path), r"a\.png .* has 50000 x 1 pixels, and would be enlarged to")
    assert Decoder(3, then=Crop("center-crop", 64))(path).size == (64, 64)
    ordinary = Decoder(3, then=Crop(crop, 64))(png(tmp_path / "b.png", 300, 20))
    assert min(ordinary.size) in (64, 80)


def test_evaluated_images_have_a_pixel_limit(tmp_path):
    png(tmp_path / "a.png", 2000, 1100)
    refused(lambda: image_sets.from_files(tmp_path, None, 3), "2000x1100 pixels; images to be eval")


def test_links_out_of_a_folder_are_followed_once(tmp_path, capsys):
    root, outside = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (root / "cat", outside):
        folder.mkdir(parents=True)
    for path in (root / "cat" / "1.png", outside / "2.png", outside / "3.png"):
        png(path, 8, 8)
    assert find_images(root).note == ""
    (root / "dog").symlink_to(outside)
    (root / "cat" / "4.png").symlink_to(outside / "3.png")
    (root / "cat" / "5.png").symlink_to("1.png")
    (root / "cat" / "up").symlink_to(tmp_path)
    (root / "cat" / "everything").symlink_to("/")
    (root / "around.png").symlink_to("around.png")
    (root / "dog" / "back").symlink_to(root)
    listing = find_images(root, FolderOptions(exclude="around.png", labels="folders"))
    assert listing.files == [f"cat/{n}.png" for n in (1, 4, 5)] + ["dog/2.png", "dog/3.png"]
    assert listing.note.startswith(f"Links lead out of {root} to 3 of its files, such as cat/4.png")
    assert str(outside / "3.png") in listing.note
    read_folder(
        listing,
        split="train",
        decoder=Decoder(3),
        crop=Crop("stretch", 8),
        cache_dir=tmp_path / "c",
    )
    assert capsys.readouterr().out.splitlines().count(listing.note) == 1


JSON = {
    "brackets": ("[" * 10**6, "nested", 64 * MB),
    "a little too deep": ("[" * 70 + "]" * 70, "nested more than 64 deep", 64 * MB),
    "long": ('{"a": "' + "x" * 2**24 + '"}', "longer than 16,777,216 bytes", 64 * MB),
    "many": ("[" + "[]," * 2**18 + "[]]", "holds more than", 64 * MB),
    "cut": ('{"a": [1, 2', "delimiter", 64 * MB),
    "digits": ('{"a": ' + "9" * 10_000 + "}", "4300", 64 * MB),
}


@pytest.mark.parametrize(("text", "message", "most"), JSON.values(), ids=JSON)
def test_json_has_limits(tmp_path, monkeypatch, text, message, most):
    monkeypatch.setattr(
        limits, "TREE_VALUES", 2**12
    )  # which are counted slowly while types are checked
    path = tmp_path / "dataset.json"
    path.write_text(text)
    refused(lambda: json_files.read_object(path, remedy="x"), message, most=most)
    refused(lambda: CachedSource(tmp_path), message, most=most)


def test_arrays_of_a_decoded_dataset_have_the_described_length(tmp_path):
    about = dataclasses.asdict(Description("a", "b", (0, 0, 3), [], count=3))
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    for name in ("labels.bin", "sizes.bin", "images.bin"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(8 * GB)
    refused(lambda: CachedSource(tmp_path), "labels.bin has 8,589,934,592 bytes, not 12")


@pytest.mark.parametrize("length", [2**63, 2**26])
def test_safetensors_header_has_a_limit(tmp_path, length):
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", length) + b"{")
        file.truncate(2**27)
    refused(lambda: safetensors.tensors_of(tmp_path / "a.safetensors"), "its header has .* bytes")


def test_lines_of_metrics_have_a_limit(tmp_path):
    lines = ['{"step": 1}', '{"step": ' + "[" * 5000, '{"step": "x"}', '{"step": 2}']
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write("\n".join(lines) + "\n" + "x" * 2**26 + '\n{"step": 3}\n')
    with memory.at_most(32 * MB):
        assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_classes_of_a_run_must_be_text(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"cat\n\xff\n")
    refused(lambda: load_classes(tmp_path), r"classes\.txt does not hold the names")


def test_scripts_report_hostile_files_in_one_line(tmp_path):
    zips, pictures = tmp_path / "zips", tmp_path / "pictures"
    for folder in (zips, pictures):
        folder.mkdir()
    zeros_in_zip(zips / "Imagenet64_val.zip", "val_data", b"", GB // 2)
    png(pictures / "a.png", 20_000, 20_000, rows=2)
    where = f"--data_dir={tmp_path / 'data'}"
    folder = [f"--config.data.name=folder:{pictures}", f"--config.data.data_dir={tmp_path}"]
    cases = [
        ["imagenet64", f"--source={zips}", where, "--any_count", "--split=validation"],
        ["check", "--config=configs/folder.py", *folder],
    ]
    for done, message in zip(
        run_each("data", cases), ("unpacks to 5", "more than 134,217,728 pixels")
    ):
        assert done.returncode == 1, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert message in line
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
