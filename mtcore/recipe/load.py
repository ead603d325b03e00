"""Loading a configuration: find the text, recognise its grammar, resolve it, report all problems together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtcore.errors import RecipeError, UnknownNameError, look_up
from mtcore.formats import TensorFormat
from mtcore.recipe.document import Document, KeyPath, Problems
from mtcore.recipe.foreign import is_foreign, resolve_foreign
from mtcore.recipe.overrides import apply_overrides
from mtcore.recipe.own import resolve_own
from mtcore.recipe.parts import Parts, Scope
from mtcore.recipe.read import read_file, read_mapping, read_yaml
from mtcore.recipe.setting import QuantizeConfig
from mtcore.recipe.spec import RecipeSpec

GIVEN = "the given config"
SUFFIXES = (".yaml", ".yml", ".json")


def load_config(
    source: str | Path | Mapping[Any, Any] | QuantizeConfig,
    *,
    formats: Mapping[str, TensorFormat],
    recipes: Mapping[str, RecipeSpec],
    overrides: Sequence[str] = (),
) -> QuantizeConfig:
    """Turn what a user wrote into a checked configuration.

    Args:
        source: the name of a recipe; the path of a YAML or JSON file; a mapping in our grammar, in the form of the
            reference architecture or in one of Model-Optimizer's; or a `QuantizeConfig`, which is given back.
        formats: every format by name and by alias.
        recipes: the recipes that can be named and included.
        overrides: changes as `path=value`, applied to the source before it is resolved: "rules.0.weight=fp8".

    Raises:
        RecipeError: lists everything that is wrong, each line with its place and the nearest valid name.
            Algorithms' names and options, targets' names, and rules that match nothing, are checked by the planner.

    Example:
        >>> from mtcore.formats import builtin_formats
        >>> formats = {fmt.name: fmt for fmt in builtin_formats()}
        >>> config = load_config({"rules": [{"weight": "fp8"}]}, formats=formats, recipes={})
        >>> print(config.rules[0].pattern, config.rules[0].setting, config.rules[0].origin, sep=" | ")
        *weight_quantizer | fp8 (static) | rule #1 of the given config
    """
    if isinstance(source, QuantizeConfig):
        if overrides:
            raise RecipeError(["overrides change a recipe's text; this configuration is resolved already"])
        return source
    problems = Problems()
    doc = _document(source, recipes, problems)
    if doc is None:
        problems.raise_if_any()
    assert doc is not None, "a missing document without a problem"
    doc = apply_overrides(doc, overrides, problems)
    parts = _Loader(formats, recipes, problems).resolve(doc, ())
    _check_switches(parts, problems)
    problems.raise_if_any()
    name = parts.name or doc.title.removeprefix("recipe ")
    config = QuantizeConfig(name=name, rules=parts.rules, summary=parts.summary, notes=parts.notes)
    if parts.algorithm is not None:
        config = replace(config, algorithm=parts.algorithm)
    if parts.guard is not None:
        config = replace(config, max_unquantized=parts.guard.share, guard_origin=parts.guard.origin)
    if parts.experts is not None:
        config = replace(config, experts=parts.experts)
    if parts.targets is not None:
        config = replace(config, targets=parts.targets.names, targets_origin=parts.targets.origin)
    return config


def _document(
    source: str | Path | Mapping[Any, Any], recipes: Mapping[str, RecipeSpec], problems: Problems
) -> Document | None:
    if isinstance(source, Mapping):
        return read_mapping(source, title=GIVEN, problems=problems)
    if isinstance(source, str | Path):
        return _named(str(source), Path(), recipes, problems, place="")
    kind = type(source).__name__
    problems.add(GIVEN, f"a recipe is a name, a path, a mapping or a QuantizeConfig, not a {kind}")
    return None


def _named(
    name: str, folder: Path, recipes: Mapping[str, RecipeSpec], problems: Problems, place: str
) -> Document | None:
    """The document of a recipe's name, in which hyphens do for underscores, or of a path relative to `folder`."""
    plain = name.replace("-", "_")
    if name not in recipes and plain in recipes:
        name = plain
    if name not in recipes and (name.endswith(SUFFIXES) or "/" in name):
        return read_file(folder / name, problems)
    try:
        spec = look_up("recipe", name, recipes)
    except UnknownNameError as error:
        problems.add(place, f"{error}. A file is named with its suffix {' or '.join(SUFFIXES)}")
        return None
    return read_yaml(spec.text, title=f"recipe {spec.name}", problems=problems)


def _check_switches(parts: Parts, problems: Problems) -> None:
    """Note rules that switch quantizers on before any rule gives one a format."""
    for rule in parts.rules:
        if rule.setting is not None:
            return
        if rule.enable:
            problems.add(rule.origin, "it switches quantizers on, but no rule before it gives any of them a format")


class _Loader:
    """Resolves documents and what they include; `chain` are the documents on the way, against circles."""

    def __init__(
        self, formats: Mapping[str, TensorFormat], recipes: Mapping[str, RecipeSpec], problems: Problems
    ) -> None:
        self.formats, self.recipes, self.problems = formats, recipes, problems

    def resolve(self, doc: Document, chain: tuple[str, ...]) -> Parts:
        chain = (*chain, doc.identity)

        def include(name: str, path: KeyPath, includer: Document) -> Parts:
            found = _named(name, includer.folder, self.recipes, self.problems, includer.place(path))
            if found is None:
                return Parts()
            if found.identity in chain:
                circle = " includes ".join((*chain[chain.index(found.identity) :], found.identity))
                self.problems.add(includer.place(path), f"a circle: {circle}")
                return Parts()
            return self.resolve(found, chain)

        resolve = resolve_foreign if is_foreign(doc.data) else resolve_own
        return resolve(doc, Scope(self.formats, self.problems, include))
