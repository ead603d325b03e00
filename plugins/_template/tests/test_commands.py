"""The command says hello."""

from click.testing import CliRunner

from mtopt_template.commands import hello


def test_it_greets_by_name():
    result = CliRunner().invoke(hello, ["--name", "Ada"])
    assert (result.exit_code, result.output) == (0, "hello, Ada\n")
