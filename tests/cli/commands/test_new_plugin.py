"""`mtopt new-plugin`."""

import json

from mtcore.plugins.scaffold import PARTS


def test_it_lists_what_it_wrote_and_what_comes_next(mtopt, tmp_path):
    shown = mtopt("new-plugin", "acme", "--with", "format,kernel", "--directory", tmp_path / "acme").out
    assert f"{tmp_path / 'acme'}/src/acme/formats.py" in shown
    assert "pip install -e '.[testing]'" in shown
    assert (tmp_path / "acme" / "tests" / "test_kernels.py").is_file()


def test_json_tells_parts_and_files(mtopt, tmp_path):
    data = json.loads(mtopt("new-plugin", "acme", "--directory", tmp_path / "acme", "--json").out)
    assert (data["package"], data["directory"]) == ("acme", str(tmp_path / "acme"))
    assert "exporter" in data["parts"]
    assert "src/acme/hooks.py" in data["files"]


def test_a_bad_name_is_one_line_and_an_exit_code(mtopt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = mtopt("new-plugin", "Acme")
    assert shown.code == 1
    assert shown.err.startswith("error: 'Acme' is no name for a plugin")
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_part(mtopt):
    words = " ".join(mtopt("new-plugin", "--help").out.split())
    named = words.partition("What it has: ")[2].partition(".")[0].split(", ")
    assert sorted(named) == sorted(PARTS)
