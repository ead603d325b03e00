"""What came with the weights goes with them."""

from mtcore.export import SourceFiles


def test_files_are_copied_and_texts_written_also_into_folders(tmp_path):
    (tmp_path / "a.model").write_bytes(b"\0\1")
    files = SourceFiles({"model_type": "toy"}, {"sub/a.model": tmp_path / "a.model"}, {"b.txt": "ä"})
    out = tmp_path / "out"
    files.write_files(out)
    assert (out / "sub" / "a.model").read_bytes() == b"\0\1"
    assert (out / "b.txt").read_text(encoding="utf-8") == "ä"
    assert sorted(path.name for path in out.rglob("*")) == ["a.model", "b.txt", "sub"]
