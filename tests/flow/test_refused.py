"""A mixture that a target refuses is told by the fewest layers that it refuses together, with what to do."""

from dataclasses import replace

import pytest

from mtcore.errors import ExportError
from mtcore.flow import DataOptions, search_checkpoint
from mtcore.flow.refused import Refusal, fewest
from mtcore.hookspecs import hookimpl
from mtcore.opt import AS_IT_IS
from mtcore.plugins import Registry
from mtcore.quantization import plan_model
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks

DATA = DataOptions(samples=2, length=16, batch_size=2)


def formats(plan):
    return sorted({slot.format.name for module in plan.quantized for slot in module.slots})


class OneForAll(ToyBlocksPlugin):
    """Dialects with one format for all layers: `ruled` says so before, `strict` when it writes."""

    @hookimpl
    def mtcore_exporters(self):
        (toy,) = super().mtcore_exporters()

        def problems(plan):
            return [f"one format for all, not {', '.join(formats(plan))}"] if len(formats(plan)) > 1 else []

        def write(artifact, folder, **options):
            if problems(artifact.plan):
                raise ExportError(problems(artifact.plan))
            toy.write(artifact, folder, **options)

        return [replace(toy, name="ruled", check=problems), replace(toy, name="strict", write=write)]


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    source = f"{SOURCE}{write_toy_blocks(tmp_path_factory.mktemp('toy'), ToyShape(layers=2))}"
    kept = tmp_path_factory.mktemp("kept")
    registry = Registry.load([OneForAll()], discover=False)

    def call(*targets):
        more = {"calib": "some", "data": DATA, "registry": registry, "targets": targets}
        return search_checkpoint(source, ("nvfp4", "fp8"), statistics=kept, score="output_error", **more)

    return call


@pytest.mark.parametrize("target", ["ruled", "strict"])
def test_the_layers_that_are_refused_together_are_named_and_what_is_served(search, target):
    found = search(target)
    solution = found.searcher.solve(bits=6)
    (refusal,) = found.refusals(solution, found.rehearse(solution))
    chosen = dict(zip((d.name for d in solution.decisions), solution.chosen, strict=True))
    assert sorted(refusal.together.values()) == ["fp8", "nvfp4"]
    assert refusal.together.items() <= chosen.items()
    assert refusal.alone == ("nvfp4", "fp8")
    one, two = refusal.together.items()
    assert str(refusal) == (
        f"{target} refuses together {one[0]} as {one[1]}, {two[0]} as {two[1]}: one format for all, not fp8, nvfp4"
        "; search with --choices nvfp4 or --choices fp8, which it serves alone, or leave out "
        f"--to {target} and change the recipe by hand"
    )
    assert refusal.to_json()["together"] == dict(refusal.together)


def test_nothing_is_told_of_a_mixture_that_is_served(search):
    found = search("ruled")
    solution = found.searcher.uniform("fp8")
    assert found.refusals(solution, found.rehearse(solution)) == ()


def test_a_mixture_that_is_rehearsed_and_refused_is_planned_once(search, monkeypatch):
    found, planned = search("ruled"), []

    def counted(model, recipe, **more):
        planned.append(recipe["name"])
        return plan_model(model, recipe, **more)

    monkeypatch.setattr("mtcore.flow.search.plan_model", counted)
    solution = found.searcher.solve(bits=6)
    assert found.refusals(solution, found.rehearse(solution))
    assert len(planned) == 3  # the mixture, and each choice alone


@pytest.mark.parametrize(
    ("together", "alone", "text"),
    [
        ({"up": "fp8"}, (), "t refuses up as fp8: no; search with fewer --choices, or leave out --to t and change"),
        ({}, ("a",), "t refuses a checkpoint in which nothing is quantized: no; search with --choices a"),
        (dict.fromkeys("abcde", "fp8"), (), "t refuses together a as fp8, b as fp8, c as fp8, and 2 more: no"),
    ],
)
def test_it_is_said_in_one_sentence(together, alone, text):
    assert str(Refusal("t", "no", together, alone)).startswith(text)


@pytest.mark.parametrize("wanted", [{0}, {299}, {3, 250}, {0, 1, 2}, {7, 100, 101, 299}])
def test_the_fewest_are_found_with_few_questions(wanted):
    asked = []
    found = fewest(lambda names: (asked.append(1), wanted <= set(names))[1], range(300))
    assert set(found) == wanted
    assert len(asked) <= 2 * len(wanted) * 9 + 2 * len(wanted)


def test_one_name_alone_is_not_asked_about():
    assert fewest(None, [AS_IT_IS]) == [AS_IT_IS]
    assert fewest(None, []) == []
