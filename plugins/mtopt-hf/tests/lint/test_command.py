"""`mtopt lint`, on checkpoints that peers wrote."""

import json

import pytest

from mtcore.cli.main import run


@pytest.fixture
def mtopt_lint(capsys):
    def call(*args):
        code = run(["lint", *map(str, args)])
        return code, capsys.readouterr()

    return call


def test_the_exit_code_is_that_of_the_clients_that_were_named(peer, mtopt_lint, tmp_path):
    folder = peer("mo-nvfp4").write(tmp_path / "c")
    assert mtopt_lint(folder, "--client", "vllm,trtllm")[0] == 0
    assert mtopt_lint(folder, "--client", "vllm", "--client", "transformers")[0] == 1


def test_without_names_one_client_that_can_use_it_is_enough(peer, mtopt_lint, tmp_path):
    assert mtopt_lint(peer("mo-nvfp4").write(tmp_path / "a"))[0] == 0
    assert mtopt_lint(peer("mo-int8-sq").write(tmp_path / "b"))[0] == 1


def test_people_read_verdict_reason_and_advice(peer, mtopt_lint, tmp_path):
    _, shown = mtopt_lint(peer("mo-fp8").write(tmp_path / "c"))
    assert "error modelopt-silent for transformers" in shown.out
    assert "takes codes for values; the logits are wrong without an error" in shown.out
    assert "→ write or convert to compressed-tensors" in shown.out


def test_programs_read_json(peer, mtopt_lint, tmp_path):
    _, shown = mtopt_lint(peer("mo-fp8").write(tmp_path / "c"), "--json")
    found = json.loads(shown.out)
    assert found["clients"]["vllm"]["loads"] is True
    assert found["clients"]["transformers"]["loads"] is False
    assert {"severity", "rule", "clients", "where", "why", "todo"} == set(found["findings"][0])


def test_many_places_of_one_rule_are_folded(peer, mtopt_lint, tmp_path):
    draft = peer("mo-nvfp4")
    for name in [name for name in draft.tensors if name.endswith("weight_scale_2")]:
        del draft.tensors[name]
    folder = draft.write(tmp_path / "c")
    assert "… and 4 more; --all shows them" in mtopt_lint(folder)[1].out
    assert "more; --all" not in mtopt_lint(folder, "--all")[1].out


def test_a_client_that_nobody_knows_is_named(peer, mtopt_lint, tmp_path):
    code, shown = mtopt_lint(peer("mo-fp8").write(tmp_path / "c"), "--client", "vlm")
    assert code == 1
    assert "Did you mean 'vllm'?" in shown.err


def test_no_directory_is_one_clear_line(mtopt_lint, tmp_path):
    code, shown = mtopt_lint(tmp_path / "nothing")
    assert code == 1
    assert shown.err.splitlines() == [
        f"error: {tmp_path / 'nothing'}: no such directory; a checkpoint on a hub has to be fetched first"
    ]
