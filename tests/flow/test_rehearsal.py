"""Targets of a plan: written without values, linted, refused by name."""

import json

import pytest
from safetensors.torch import save_file

from mtcore.errors import UnknownNameError
from mtcore.export import Client, ExporterSpec, SourceFiles
from mtcore.files import save_tensors
from mtcore.flow.loaded import LoadedModel
from mtcore.flow.rehearsal import rehearse
from mtcore.formats.catalog import FP8, NVFP4
from mtcore.hookspecs import hookimpl
from mtcore.lint import ClientSpec, Hit, Reading, RuleSpec
from mtcore.plugins import Registry
from mtcore.testing.exporters import stored_tensors, toy_artifact
from mtcore.testing.toy import ToyModel, toy_config, toy_plan


def write(artifact, directory):
    tensors = stored_tensors(artifact)
    save_tensors(directory / "model.safetensors", tensors, tensors)
    (directory / "config.json").write_text(json.dumps({"model_type": "toy"}))


def small_enough(checkpoint):
    for tensor in checkpoint.tensors.values():
        if tensor.dtype == "U8":
            yield Hit(tensor.name, "the server has no bytes", "write floats")


def write_values(artifact, directory):
    save_file(stored_tensors(artifact), directory / "model.safetensors")


class Plugin:
    @hookimpl
    def mtcore_exporters(self):
        yield ExporterSpec("eager", "needs values", lambda plan: (), write_values)
        clients = (Client("server", "it reads it"), Client("nobody", "it is not known to linting"))
        yield ExporterSpec("plain", "for tests", lambda plan: (), write, clients=clients)
        yield ExporterSpec("never", "for tests", lambda plan: ("no",), write)

    @hookimpl
    def mtcore_clients(self):
        yield ClientSpec(
            "server", "1.0", lambda checkpoint: Reading(f"{len(checkpoint.tensors)} tensors", "slowly")
        )

    @hookimpl
    def mtcore_lint_rules(self):
        yield RuleSpec("no-bytes", "no tensor of bytes", {"server": "error"}, small_enough)


@pytest.fixture(scope="module")
def registry():
    return Registry.load([Plugin()], discover=False)


def rehearsed(registry, fmt, *targets):
    model = ToyModel()
    return rehearse(LoadedModel(model, "toy"), toy_plan(model, toy_config(fmt)), targets, registry)


def test_a_target_that_can_be_reached_has_its_size_and_the_clients_reading(registry, tmp_path):
    [found] = rehearsed(registry, FP8, "server")
    assert found.problems == ()
    assert found.report.readings["server"].how == "slowly"
    write(toy_artifact(FP8, None, SourceFiles()), tmp_path)
    assert found.files == {path.name: path.stat().st_size for path in tmp_path.iterdir()}


def test_what_the_client_would_not_run_is_refused_by_rule_and_tensor(registry):
    [found] = rehearsed(registry, NVFP4, "server")
    assert "the server has no bytes (no-bytes)" in found.problems[0]
    assert found.to_json()["problems"] == list(found.problems)


def test_what_the_dialect_cannot_write_is_refused_before(registry):
    [found] = rehearsed(registry, FP8, "never")
    assert found.problems == ("no",)
    assert (found.size_bytes, found.report) == (0, None)


def test_a_client_without_rules_and_a_dialect_are_written_all_the_same(registry):
    for found in rehearsed(registry, FP8, "nobody", "plain"):
        assert found.size_bytes > 0
        assert found.report is None


def test_an_exporter_that_needs_values_is_said_to_be_untried(registry):
    [found] = rehearsed(registry, FP8, "eager")
    assert found.problems == ()
    assert "cannot be tried without values" in found.target.notes[-1]


def test_each_target_stands_once_in_the_order_asked_for(registry):
    names = [found.target.name for found in rehearsed(registry, FP8, "plain", "server", "plain")]
    assert names == ["plain", "server"]


def test_a_target_that_nobody_knows_is_named(registry):
    with pytest.raises(UnknownNameError, match="serve"):
        rehearsed(registry, FP8, "serve")
