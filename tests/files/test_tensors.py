"""Safetensors written piece by piece and read as views: the library agrees, and damage is found."""

import weakref

import pytest
import safetensors.torch
import torch

from mtcore.errors import StateError
from mtcore.files import TensorFile, save_tensors

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


def test_a_mapping_that_makes_its_tensors_holds_one_at_a_time(tmp_path):
    alive = []

    class Made(dict):
        def __getitem__(self, name):
            assert not any(ref() is not None for ref in alive)
            tensor = torch.full((100,), float(name))
            alive.append(weakref.ref(tensor))
            return tensor

    save_tensors(tmp_path / "f", ["1", "2", "3"], Made())
    assert [TensorFile(tmp_path / "f")[name][0].item() for name in ("1", "2", "3")] == [1.0, 2.0, 3.0]


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
