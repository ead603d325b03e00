"""Safetensors written piece by piece and read as views: the library agrees, and damage is found."""

import weakref

import pytest
import safetensors.torch
import torch

from mtcore.errors import StateError
from mtcore.files import TensorFile, TensorSource, save_tensors
from mtcore.files.ahead import AHEAD

TENSORS = {
    "wide": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
    "b.codes": torch.arange(5, dtype=torch.uint8),
    "a.scale": torch.tensor(2.5),
    "half": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16().T,
    "eight": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
    "nothing": torch.empty(0, 4),
    "yes": torch.tensor([True, False]),
}


def test_the_safetensors_library_reads_what_we_write(tmp_path):
    save_tensors(tmp_path / "f", TENSORS, TENSORS, {"format": "pt"})
    found = safetensors.torch.load_file(tmp_path / "f")
    assert found.keys() == TENSORS.keys()
    assert all(found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in TENSORS.items())


def test_views_of_a_file_are_its_tensors(tmp_path):
    save_tensors(tmp_path / "f", TENSORS, TENSORS, {"a": "1"})
    file = TensorFile(tmp_path / "f")
    assert file.metadata == {"a": "1"}
    assert set(file) == set(TENSORS)
    assert all(file[name].dtype == t.dtype and torch.equal(file[name], t) for name, t in TENSORS.items())


class Made(dict):
    """Makes its tensors when asked, and knows how many of them were alive at once."""

    def __init__(self, elements):
        self._elements, self._alive, self.most = elements, weakref.WeakSet(), 0

    def __getitem__(self, name):
        tensor = torch.full((self._elements,), float(name))
        self._alive.add(tensor)
        self.most = max(self.most, len(self._alive))
        return tensor


def test_of_a_mapping_that_makes_its_tensors_a_few_are_held(tmp_path):
    made, names = Made(100), [str(number) for number in range(30)]
    save_tensors(tmp_path / "f", names, made)
    assert [float(TensorFile(tmp_path / "f")[name][0]) for name in names] == list(range(30))
    assert made.most <= 2 + AHEAD  # one that is written, those ahead, and one whose shape is asked for


def test_of_tensors_that_are_large_together_one_is_held_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("mtcore.files.tensors.HELD_BYTES", 500)
    made = Made(100)  # 400 bytes each
    save_tensors(tmp_path / "f", ["1", "2", "3", "4", "5"], made)
    assert made.most == 1


def test_an_error_while_a_tensor_is_made_names_it_and_leaves_nothing(tmp_path):
    class Broken(TensorSource):
        def facts(self, name):
            return torch.float32, torch.Size([2])

        def __getitem__(self, name):
            if name == "b":
                raise StateError("its file is gone")
            return torch.zeros(2)

        def __iter__(self):
            return iter("abc")

        def __len__(self):
            return 3

    with pytest.raises(StateError, match="its file is gone") as caught:
        save_tensors(tmp_path / "f", "abc", Broken())
    assert caught.value.__notes__ == [f"while b was made for {tmp_path / 'f'}"]
    assert not list(tmp_path.iterdir())


def test_a_file_larger_than_what_is_flushed_at_once_has_the_bytes_of_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr("mtcore.files.pieces.PIECE_BYTES", 8192)
    tensors = {f"{number:02}": torch.full((400,), number, dtype=torch.uint8) for number in range(20)}
    save_tensors(tmp_path / "ours", tensors, tensors)
    safetensors.torch.save_file(tensors, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_file_cut_short_is_found(tmp_path, keep):
    save_tensors(tmp_path / "f", TENSORS, TENSORS)
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes()[:keep])
    with pytest.raises(StateError, match="not a whole safetensors file"):
        TensorFile(tmp_path / "f")


def test_a_dtype_without_a_name_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"x: a safetensors file holds no torch\.complex64"):
        save_tensors(tmp_path / "f", ["x"], {"x": torch.zeros(1, dtype=torch.complex64)})
    assert not list(tmp_path.iterdir())


def test_tensors_without_values_become_holes_of_their_size(tmp_path):
    tensors = {"a": torch.ones(3), "b": torch.empty(10**6, device="meta"), "c": torch.ones(2, dtype=torch.int8)}
    save_tensors(tmp_path / "x.safetensors", tensors, tensors)
    found = TensorFile(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], tensors["a"])
    assert torch.equal(found["c"], tensors["c"])
    assert found["b"].shape == (10**6,)
    assert (tmp_path / "x.safetensors").stat().st_blocks * 512 < 10**6  # of 4 MB


def test_a_file_may_end_with_a_hole(tmp_path):
    tensors = {"a": torch.empty(1000, device="meta")}
    save_tensors(tmp_path / "x.safetensors", tensors, tensors)
    assert len(TensorFile(tmp_path / "x.safetensors")) == 1
