"""Tensors in files are known as such, and their memory comes back without a change of their values."""

import torch

from mtcore.files import TensorFile, drop_pages, fetch_pages, in_file, read_once, resident_bytes, save_tensors


def test_memory_of_a_mapped_tensor_is_given_back_and_read_again(tmp_path):
    big = {"w": torch.arange(8 << 20, dtype=torch.int32)}  # 32 MiB
    save_tensors(tmp_path / "f", big, big)
    view = TensorFile(tmp_path / "f")["w"]
    before = resident_bytes()
    total = int(view.sum(dtype=torch.int64))
    assert resident_bytes() - before > 30 << 20
    drop_pages(view)
    assert resident_bytes() - before < 4 << 20
    assert int(view.sum(dtype=torch.int64)) == total


def test_only_tensors_in_files_are_touched(tmp_path):
    plain = torch.arange(1 << 20)
    drop_pages(plain)
    assert not in_file(plain)
    assert int(plain[-1]) == (1 << 20) - 1
    save_tensors(tmp_path / "f", ["a", "b"], {"a": torch.ones(3), "b": torch.ones(5)})
    assert in_file(TensorFile(tmp_path / "f")["a"])
    assert not in_file(torch.empty(0))


def test_values_that_were_written_stay(tmp_path):
    values = {"a": torch.zeros(1 << 20), "b": torch.ones(3)}
    save_tensors(tmp_path / "f", values, values)
    file = TensorFile(tmp_path / "f")
    a, b = file["a"], file["b"]
    a[5], b[1] = 7, 8
    a.sum()
    before = resident_bytes()
    drop_pages(a)
    drop_pages(b)
    assert before - resident_bytes() > 3 << 20
    assert (a[5], a[6], b[0], b[1]) == (7, 0, 1, 8)
    assert float(TensorFile(tmp_path / "f")["a"].sum()) == 0


def test_fetched_pages_hold_the_files_values_and_other_tensors_are_left_alone(tmp_path):
    values = torch.arange(50_000, dtype=torch.int32)
    save_tensors(tmp_path / "file", ["a"], {"a": values})
    mapped = TensorFile(tmp_path / "file")["a"]
    assert [fetch_pages(tensor) for tensor in (mapped, values, torch.empty(0))] == [True, False, False]
    assert torch.equal(mapped, values)


def test_what_is_read_once_takes_memory_while_it_is_read(tmp_path):
    big = {"w": torch.arange(8 << 20, dtype=torch.int32)}  # 32 MiB
    save_tensors(tmp_path / "f", big, big)
    view = TensorFile(tmp_path / "f")["w"]
    before = resident_bytes()
    with read_once(view) as given:
        assert given is view
        assert resident_bytes() - before > 30 << 20
    assert resident_bytes() - before < 4 << 20
    with read_once(big["w"]) as given:
        assert int(given[-1]) == (8 << 20) - 1
