"""Reading and writing the files of `torch.save` without PyTorch."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from diffusion_jax.files import torch_reader, torch_writer

TREE = {
    "state": {
        0: {"step": np.array(3.0, np.float32), "mean": np.arange(6, dtype=np.float32).reshape(2, 3)}
    },
    "param_groups": [
        {"lr": 3e-4, "betas": (0.9, 0.999), "fused": None, "flag": True, "params": [0, 2**40, -5]}
    ],
}


def archive(path, pickled, **members):
    """A zip file like torch.save's, with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", pickled)
        for name, data in members.items():
            file.writestr("x/" + name.replace("__", "/"), data)
    return path


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def tensor(offset=0, size=(2,), stride=(1,), count=4, kind="FloatStorage"):
    """The pickle of one tensor in data/0, by hand."""
    out = io.BytesIO()
    out.write(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n")
    out.write(kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu")
    for number in (count, "Q", offset, "(", *size, "t", "(", *stride, "t"):
        if isinstance(number, str):
            out.write({"Q": b"tQ", "(": b"(", "t": b"t"}[number])
        else:
            out.write(b"J" + int(number).to_bytes(4, "little", signed=True))
    out.write(b"\x89ccollections\nOrderedDict\n)RtR.")
    return out.getvalue()


# A tensor of 0 times 2^200 numbers, and a tuple of itself twice, forty times over.
HUGE = tensor(size=(0, 7), stride=(1, 1)).replace(b"J\x07\0\0\0", b"\x8a\x1a" + b"\0" * 25 + b"\1")
NESTED = b")q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"h\x00"
DATA = {"data__0": np.arange(4, dtype="<f4").tobytes()}


def test_written_files_round_trip(tmp_path):
    torch_writer.write(tmp_path / "a.pkl", TREE)
    read = torch_reader.read(tmp_path / "a.pkl")
    assert read["param_groups"] == TREE["param_groups"]
    for name, array in TREE["state"][0].items():
        assert_array_equal(read["state"][0][name], array)
        assert read["state"][0][name].shape == array.shape
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


def test_golden_files_round_trip(tmp_path, golden):
    for name in ("odd", "train_tiny"):
        state = torch_reader.read(golden / "original_unet" / f"{name}.pkl")
        assert isinstance(state, OrderedDict)
        torch_writer.write(tmp_path / "copy.pkl", state)
        copy = torch_reader.read(tmp_path / "copy.pkl")
        assert list(copy) == list(state)
        for key in state:
            assert_array_equal(copy[key], state[key])


@pytest.mark.parametrize("name", ["zip", "legacy"])
def test_dtypes_of_torch_are_read(golden, name):
    read = torch_reader.read(golden / "torch_types" / f"{name}.pt")
    with np.load(golden / "torch_types" / "values.npz") as values:
        assert list(read["model"]) == [name for name in values.files if name != "parameter"]
        for key, array in read["model"].items():
            assert str(array.dtype) == {"transposed": "float32", "part": "float32"}.get(key, key)
            assert_array_equal(array.astype(np.float64), values[key])
        parameter, number = read["list"]
        assert_array_equal(parameter.astype(np.float64), values["parameter"])
    assert (number, read["step"]) == (3, 7)


def test_damaged_legacy_files_are_refused(golden, tmp_path):
    whole = (golden / "torch_types" / "legacy.pt").read_bytes()
    path = tmp_path / "a.pt"
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.pt"):
            torch_reader.read(path)
    generator = np.random.default_rng(0)
    messages = set()
    for _ in range(500):
        damaged = bytearray(whole)
        for position in generator.integers(len(damaged), size=3):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            torch_reader.read(path)
        except ValueError as error:
            messages.add(str(error))
    assert len(messages) > 10
    assert all("a.pt" in message for message in messages)


def test_strides_and_offsets_are_applied(tmp_path):
    path = archive(tmp_path / "a.pkl", tensor(size=(2, 2), stride=(1, 2)), **DATA)
    assert_array_equal(torch_reader.read(path), [[0, 2], [1, 3]])
    path = archive(tmp_path / "b.pkl", tensor(offset=2), **DATA)
    assert_array_equal(torch_reader.read(path), [2, 3])


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(tmp_path, protocol, zipped):
    trace = tmp_path / "executed"
    attack = pickle.dumps({"w": Call(eval, f"open({str(trace)!r}, 'w')")}, protocol)
    pickle.loads(attack)
    assert trace.exists()  # so it would have been
    trace.unlink()
    path = tmp_path / "model.pkl"
    if zipped:
        archive(path, attack)
    else:
        path.write_bytes(attack)
    with pytest.raises(ValueError, match=r"model\.pkl") as caught:
        torch_reader.read(path)
    assert not trace.exists()
    if zipped and protocol >= 2:
        assert "eval'" in str(caught.value)


@pytest.mark.parametrize(
    "attack",
    [
        Call(OrderedDict, [("a", 1)]),
        {"a": {1, 2}},
        {"a": b"bytes"},
        {("a", "b"): 1},
        {"a": np.zeros(2)},
        {"a": 1 + 2j},
    ],
)
def test_malformed_tensors_are_refused(tmp_path, attack):
    path = archive(tmp_path / "a.pkl", pickle.dumps(attack, 2))
    with pytest.raises(ValueError, match="a file of tensors"):
        torch_reader.read(path)


@pytest.mark.parametrize(
    ("pickled", "members", "message"),
    [
        (tensor(kind="QInt8Storage"), DATA, "torch.QInt8Storage"),
        (tensor(offset=3), DATA, "beyond its storage"),
        (tensor(size=(2, 2**30), stride=(2, 0)), DATA, "beyond its storage"),
        (tensor(stride=(-1,)), DATA, "not described as PyTorch"),
        (tensor(offset=-1), DATA, "not described as PyTorch"),
        (tensor(size=(2, 2)), DATA, "not described as PyTorch"),
        (tensor(size=(0, 2**30), stride=(2**30, 2**30)), {}, "data/0' is missing"),
        (HUGE, DATA, "not described as PyTorch"),
        (b"\x80\x04" + NESTED + b"\x93.", DATA, "a global without a name"),
        (tensor(count=5), DATA, "wrong length"),
        (tensor(count=3), DATA, "too long"),
        (tensor(), {}, "data/0' is missing"),
        (tensor(), {**DATA, "byteorder": b"big"}, "byte order"),
        (tensor()[:-1], DATA, "damaged"),
        (b"", DATA, "damaged"),
        (b"\x80\x02R.", DATA, "pops more than is on the stack"),
        (b"\x80\x02h\x07.", DATA, "a missing memo entry"),
        (b"\x80\x02(Nb.", DATA, "pops more than is on the stack"),
        (b"\x80\x02NNb.", DATA, "no OrderedDict"),
    ],
)
def test_errors_name_the_defect(tmp_path, pickled, members, message):
    with pytest.raises(ValueError, match=message):
        torch_reader.read(archive(tmp_path / "a.pkl", pickled, **members))


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pkl", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", tensor())
        file.writestr("x/data/0", bytes(16))
    with pytest.raises(ValueError, match="compressed"):
        torch_reader.read(tmp_path / "a.pkl")


def test_damaged_file_is_refused_or_read_unchanged(tmp_path):
    path = archive(tmp_path / "a.pkl", tensor(size=(4,)), **DATA)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.pkl"):
            torch_reader.read(path)
    found = 0
    for position in range(len(whole)):
        for bit in (1, 128):
            flipped = bytes([whole[position] ^ bit])
            path.write_bytes(whole[:position] + flipped + whole[position + 1 :])
            try:
                numbers = torch_reader.read(path)
            except ValueError:
                found += 1
            else:  # some bytes, such as those of the date, mean nothing
                assert_array_equal(numbers, np.arange(4))
    assert found > len(whole)


def test_overlapping_members_are_refused(tmp_path):
    path = archive(tmp_path / "a.pkl", tensor(), data__0=bytes(2**16))
    with zipfile.ZipFile(path, "a") as file:
        again = file.getinfo("x/data/0")
        file.filelist.extend([again] * 100)
        file.writestr("x/more", b"")
    with pytest.raises(ValueError, match=r"a\.pkl is damaged: its members are larger"):
        torch_reader.read(path)


def test_pytorch_reads_written_files(tmp_path):
    torch = pytest.importorskip("torch")
    torch_writer.write(tmp_path / "a.pkl", TREE)
    read = torch.load(tmp_path / "a.pkl", weights_only=True)
    assert read["param_groups"] == TREE["param_groups"]
    for name, array in TREE["state"][0].items():
        assert_array_equal(read["state"][0][name].numpy(), array)


def test_random_damage_to_the_pickle_raises_only_value_errors(tmp_path):
    generator = np.random.default_rng(0)
    torch_writer.write(tmp_path / "a.pkl", TREE)
    with zipfile.ZipFile(tmp_path / "a.pkl") as file:
        pickled = file.read("a/data.pkl")
        members = {f"data__{key}": file.read(f"a/data/{key}") for key in (0, 1)}
    messages = set()
    for _ in range(500):
        damaged = bytearray(pickled)
        for position in generator.integers(len(damaged), size=3):
            damaged[position] = generator.integers(256)
        path = archive(tmp_path / "b.pkl", bytes(damaged), **members)
        try:
            torch_reader.read(path)
        except ValueError as error:
            messages.add(str(error))
    assert len(messages) > 10
    assert all("b.pkl" in message for message in messages)
