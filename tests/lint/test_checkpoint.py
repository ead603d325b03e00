"""A directory by its headers: its files, its index, and links that lead out of it."""

import json

import pytest

from mtcore.errors import ModelError
from mtcore.lint import INDEX, SINGLE, open_checkpoint


def kinds(folder):
    return [fault.kind for fault in open_checkpoint(folder).faults]


def with_index(folder, weight_map):
    (folder / SINGLE).rename(folder / "one.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_a_sound_directory_has_no_faults(folder):
    checkpoint = open_checkpoint(folder)
    assert checkpoint.faults == ()
    assert list(checkpoint.tensors) == ["a.weight_scale", "a.weight"]
    assert checkpoint.config["model_type"] == "toy"


def test_what_is_no_directory_is_refused(folder):
    with pytest.raises(ModelError, match="no such directory"):
        open_checkpoint(folder / "nothing")
    with pytest.raises(ModelError, match="not a directory"):
        open_checkpoint(folder / SINGLE)


def test_an_index_that_is_true_has_no_faults(folder):
    with_index(folder, {"a.weight_scale": "one.safetensors", "a.weight": "one.safetensors"})
    assert kinds(folder) == []


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", "a\0b"])
def test_an_index_that_leads_elsewhere_is_not_followed(folder, name):
    with_index(folder, {"a.weight_scale": "one.safetensors", "a.weight": name})
    assert "path-outside" in kinds(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_an_index_that_cannot_be_understood_is_named(folder, content):
    (folder / SINGLE).rename(folder / "one.safetensors")
    (folder / INDEX).write_text(content)
    assert "json-unreadable" in kinds(folder)


def test_links_into_the_hubs_cache_are_followed(folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    (home / "blobs").mkdir()
    (home / "snapshots" / "abc").mkdir(parents=True)
    for name in (SINGLE, "config.json"):
        (home / "blobs" / name).write_bytes((folder / name).read_bytes())
        (home / "snapshots" / "abc" / name).symlink_to(home / "blobs" / name)
    assert kinds(home / "snapshots" / "abc") == []


def test_other_links_out_of_the_directory_are_not_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "weights"
    (folder / SINGLE).rename(elsewhere)
    (folder / SINGLE).symlink_to(elsewhere)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors == {}
    assert checkpoint.faults[0].kind == "link-outside"


def test_a_link_that_leads_in_a_circle_is_no_trouble(folder):
    (folder / SINGLE).unlink()
    (folder / SINGLE).symlink_to(folder / SINGLE)
    assert open_checkpoint(folder).tensors == {}


def test_what_is_derived_is_worked_out_once(folder):
    calls = []

    def count(checkpoint):
        calls.append(checkpoint)
        return len(checkpoint.tensors)

    checkpoint = open_checkpoint(folder)
    assert [checkpoint.derive(count) for _ in range(2)] == [2, 2]
    assert calls == [checkpoint]
