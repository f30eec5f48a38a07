# SPDX-License-Identifier: Apache-2.0
"""What torch.save writes is read without PyTorch, with its values, and nothing in it runs."""

import argparse
import io
import pickle
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from ssd_ros.weights.containers import open_file
from ssd_ros.weights.weights import WeightsError

ROWS = torch.arange(120, dtype=torch.float32).reshape(6, 5, 4)
TYPES = ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool").split()
STATE = OrderedDict(
    {
        **{f"of.{name}": torch.arange(6).to(getattr(torch, name)) for name in TYPES},
        "shared.whole": ROWS,
        "shared.part": ROWS[2:4, 1],
        "shared.transposed": ROWS.transpose(0, 2),
        "strided": ROWS[::2, :, 1::2].clone(memory_format=torch.preserve_format)[:, 1:],
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "expanded": torch.randn(1, 4).expand(3, 4),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(4)),
    }
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "w.pth"


def save(content: object, file: Path, legacy: bool = False, **options: object) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=not legacy, **options)


def check(file: Path, expected: dict[str, torch.Tensor]) -> None:
    """Compares names, shapes, types and values with what was saved."""
    header, load = open_file(file)
    arrays = load()
    assert list(arrays) == list(header.shapes) == list(expected)
    for name, tensor in expected.items():
        assert header.shapes[name] == arrays[name].shape == tuple(tensor.shape)
        assert f"torch.{header.dtypes[name]}" == str(tensor.dtype)
        values = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        assert torch.from_numpy(arrays[name]).dtype == values.dtype
        assert torch.equal(torch.from_numpy(arrays[name]), values)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_every_type_and_view_is_read_as_it_was_saved(legacy, protocol, file):
    save(STATE, file, legacy, pickle_protocol=protocol)
    check(file, STATE)


def test_types_that_pytorch_got_later_are_read(file):
    state = {name: torch.arange(5).to(getattr(torch, name)) for name in ("uint16", "uint32")}
    save(state, file)
    check(file, state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state", "model_state_dict", "ema"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_a_state_dict_is_found_in_what_a_training_saved(legacy, key, file):
    inner = {f"module.{name}": tensor for name, tensor in STATE.items()}
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "optimizer": {"state": {0: {"step": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        key: {"state_dict": inner} if key == "model" else inner,
    }
    save(checkpoint, file, legacy)
    check(file, dict(STATE))


def test_an_averaged_model_has_the_names_of_its_network(file):
    network = torch.nn.Linear(2, 3)
    averaged = torch.optim.swa_utils.AveragedModel(network)
    save({"model_ema": averaged.state_dict()}, file)
    check(file, network.state_dict())


def test_values_that_are_no_tensors_are_left_out_of_a_state_dict(file):
    save({**STATE, "version": 3, "names": ["cup"]}, file)
    check(file, dict(STATE))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
def test_no_module_that_a_pickle_names_is_imported(legacy, file, tmp_path, monkeypatch):
    (tmp_path / "strange_module.py").write_text("class Strange:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import strange_module

    save({"made by": strange_module.Strange(), "model": STATE}, file, legacy)
    del sys.modules["strange_module"]
    check(file, dict(STATE))
    assert "strange_module" not in sys.modules


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_whole_module_is_refused_with_what_to_save(file, inside, legacy):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    save({"epoch": 1, "model": module} if inside else module, file, legacy)
    told = r"holds a whole module.*torch\.save\(model\.state_dict\(\)"
    with pytest.raises(WeightsError, match=told) as refused:
        open_file(file)
    assert legacy or "(torch.nn.modules.container.Sequential)" in str(refused.value)


def rewritten(file: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> None:
    """Writes an archive again, with other entries."""
    with zipfile.ZipFile(file) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(file, "w", compression) as new:
        for name, data in entries.items():
            new.writestr(name, changed.get(name.rpartition("/")[2].replace(".", "_"), data))


def with_pickle(file: Path, data: bytes) -> None:
    save({"a": torch.zeros(3)}, file)
    rewritten(file, data_pkl=data)


def with_call(function: str, *arguments: bytes) -> bytes:
    """A pickle of {"a": function(arguments)}."""
    return b"}U\x01ac" + function.encode() + b"\n(" + b"".join(arguments) + b"tRs."


def storage(count: int, key: bytes = b"0") -> bytes:
    return b"(U\x07storagectorch\nFloatStorage\nU\x01" + key + b"U\x03cpuI%d\ntQ" % count


def integers(*numbers: int) -> bytes:
    return b"(" + b"".join(b"I%d\n" % number for number in numbers) + b"t"


def view(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    where = (b"I%d\n" % offset, integers(*shape), integers(*strides))
    return with_call("torch._utils\n_rebuild_tensor", storage(count), *where)


def test_pickles_written_by_hand_are_those_of_torch(file):
    with_pickle(file, view(3, 1, (2,), (1,)))
    check(file, {"a": torch.zeros(2)})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (view(3, 2, (2,), (1,)), "larger than its storage"),
        (view(3, 0, (2, 2), (1, 2)), "larger than its storage"),
        (view(3, -1, (2,), (1,)), "no valid shape"),
        (view(3, 2, (2,), (-1,)), "no valid shape"),
        (view(3, 0, (2, 2), (1,)), "no valid shape"),
        (view(3, 0, (1 << 30, 1 << 30), (0, 0)), "has tensors of .* bytes, expected at most"),
        (view(3, 0, (1,) * 1000, (0,) * 1000), "no valid shape"),
        (b"\x80\x02c__builtin__\neval\n(U\x041+1 tR.", "references __builtin__.eval and could"),
        (b"(" * 20_000 + b"t" * 20_000 + b".", "holds a tuple"),
        (b"}" + b"\x8d" + b"\xff" * 7 + b"\x00", "damaged or truncated"),
        (b"t.", "damaged or truncated"),
        (b")" + b"2\x86" * 100 + b"}\x93.", "damaged or truncated"),  # a name of 2^100 elements
        (b"", "damaged or truncated"),
        (b"}" * (1 << 22) + b"..", "entry 'data.pkl' has .* bytes, expected at most"),
    ],
)
def test_a_hostile_pickle_is_refused(data, reason, file):
    with_pickle(file, data)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=reason):
        open_file(file)[1]()
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_an_archive_that_lies_about_its_storages_is_refused(file):
    with_pickle(file, view(1 << 28, 0, (1 << 28,), (1,)))
    header, load = open_file(file)
    assert header.shapes == {"a": (1 << 28,)}
    with pytest.raises(WeightsError, match=r"entry 'data/0' has 12 bytes, expected 1073741824"):
        load()


def test_a_compressed_archive_is_refused(file):
    save(STATE, file)
    rewritten(file, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed entry"):
        open_file(file)


def test_a_changed_byte_is_noticed(file):
    save({"a": torch.arange(1000.0)}, file)
    data = bytearray(file.read_bytes())
    data[data.index(torch.tensor([500.0, 501.0]).numpy().tobytes())] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="CRC"):
        open_file(file)[1]()


def test_a_zip_archive_of_something_else_is_refused(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "…")
    with pytest.raises(WeightsError, match=r"not one that torch\.save wrote"):
        open_file(file)


def test_torchscript_is_refused_with_what_to_save(file):
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"w/{name}", b"N.")
    with pytest.raises(WeightsError, match="TorchScript archive, expected a state dict"):
        open_file(file)


@pytest.mark.parametrize("cut", [100, 2000])
def test_a_file_from_before_1_6_that_is_cut_off_is_refused(cut, file):
    save(STATE, file, legacy=True)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(WeightsError, match="truncated"):
        open_file(file)[1]()


def test_a_checkpoint_of_python_2_is_read(file):
    """Dictionaries are made of a list of pairs there, and texts are bytes."""
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, stream, protocol=2)
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage(3) + b"I0\n(I3\nt(I1\nttR"
    stream.write(b"\x80\x02ccollections\nOrderedDict\n((l(U\x06weight" + tensor + b"latR.")
    pickle.dump(["0"], stream, protocol=2)
    stream.write((3).to_bytes(8, "little") + torch.ones(3).numpy().tobytes())
    file.write_bytes(stream.getvalue())
    check(file, {"weight": torch.ones(3)})
