"""The dialects of this plugin, rehearsed: the files are those of the real export, and clients are satisfied."""

import pytest

import mtopt_tinylm
from mtcore.export import UnifiedExporter
from mtcore.flow import load_checkpoint
from mtcore.flow.rehearsal import rehearse
from mtcore.lint import lint, open_checkpoint
from mtcore.quantization import apply_plan, plan_model, to_artifact, undo


@pytest.fixture(scope="module")
def loaded():
    return load_checkpoint(str(mtopt_tinylm.checkpoint_dir()))


@pytest.mark.parametrize(
    ("recipe", "target", "client"),
    [
        ("nvfp4_weight_only", "compressed-tensors", "vllm"),
        ("nvfp4_weight_only", "modelopt", "vllm"),
        ("fp8_row", "compressed-tensors", "hf"),
        ("fp8_row", "modelopt", "trtllm"),
        ("int4_weight_only", "compressed-tensors", "sglang"),
    ],
)
def test_headers_are_those_of_the_real_export_and_the_client_runs_it(
    loaded, registry, tmp_path, recipe, target, client
):
    plan = plan_model(loaded.model, recipe, inputs=loaded.example_inputs, registry=registry)
    [found] = rehearse(loaded, plan, [target], registry)
    assert found.problems == ()
    model = apply_plan(loaded.model, plan, None, registry=registry)
    try:
        artifact = to_artifact(model, loaded.files)
        real = UnifiedExporter(registry.exporters).export(artifact, tmp_path / "real", target)
    finally:
        undo(model)
    assert {name: size for name, size in real.files.items() if name in found.files} == found.files
    report = lint(open_checkpoint(tmp_path / "real"), [registry.clients[client]], registry.lint_rules.values())
    assert report.loads(registry.clients[client].name), report.findings
