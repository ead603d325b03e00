"""`mtopt convert`."""

import json

import pytest

from mtcore.cli.main import run


@pytest.fixture
def mtopt_convert(capsys):
    def call(*args):
        code = run(["convert", *map(str, args)])
        return code, capsys.readouterr()

    return call


def test_people_read_what_was_compared(peer, mtopt_convert, tmp_path):
    code, shown = mtopt_convert(peer("mo-nvfp4"), "--to", "compressed-tensors", "-o", tmp_path / "out")
    assert code == 0
    assert "7 layers read back: codes, scales and zero points are identical" in shown.out


def test_the_proof_is_json_layer_by_layer(peer, mtopt_convert, tmp_path):
    proof = tmp_path / "proof.json"
    folder, out = peer("mo-nvfp4"), tmp_path / "out"
    _, shown = mtopt_convert(folder, "--to", "compressed-tensors", "-o", out, "--proof", proof, "--json")
    found = json.loads(shown.out)
    assert json.loads(proof.read_text()) == found
    assert (found["from"], found["to"], found["identical"], len(found["layers"])) == (
        *("modelopt", "compressed-tensors", True),
        7,
    )
    assert {"layer", "codes", "scales", "outer_ulps"} <= set(found["layers"][0])


def test_a_refusal_is_one_clear_message(peer, mtopt_convert, tmp_path):
    code, shown = mtopt_convert(peer("lc-nvfp4"), "--to", "awq", "-o", tmp_path / "out")
    assert code == 1
    assert "cannot be spelled in awq" in shown.err
    assert "Traceback" not in shown.err


def test_shards_are_cut_as_asked(peer, mtopt_convert, tmp_path):
    mtopt_convert(peer("mo-fp8"), "--to", "compressed-tensors", "-o", tmp_path / "out", "--max-shard-size", "64kB")
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_output_that_is_or_holds_the_checkpoint_is_refused(peer, mtopt_convert, force):
    folder = peer("mo-nvfp4")
    before = sorted(folder.iterdir())
    for out in (folder, folder / ".." / folder.name, folder.parent):
        code, shown = mtopt_convert(folder, "--to", "compressed-tensors", "-o", out, *force)
        assert code == 1
        assert "the checkpoint" in shown.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("proof", "message"),
    [
        ("none/p.json", "there is no directory"),
        ("file/p.json", "is a file and no directory"),
        (".", "it is a directory"),
        ("out", "is the directory to write"),
        ("model", "is a file of the checkpoint"),
    ],
)
def test_a_proof_that_cannot_be_written_is_refused_before_the_checkpoint_is(
    peer, mtopt_convert, tmp_path, proof, message
):
    folder, out = peer("mo-nvfp4"), tmp_path / "out"
    (tmp_path / "file").write_text("")
    proof = folder / "config.json" if proof == "model" else tmp_path / proof
    code, shown = mtopt_convert(folder, "--to", "compressed-tensors", "-o", out, "--proof", proof)
    assert code == 1
    assert message in shown.err
    assert not out.exists()


def test_a_proof_may_lie_in_the_new_checkpoint(peer, mtopt_convert, tmp_path):
    out = tmp_path / "out"
    line = ("--to", "compressed-tensors", "-o", out, "--proof", out / "proof.json")
    assert mtopt_convert(peer("mo-nvfp4"), *line)[0] == 0
    assert json.loads((out / "proof.json").read_text())["identical"]
