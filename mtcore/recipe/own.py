"""Our own grammar, resolved: includes merged, single values decided, statements in order."""

from __future__ import annotations

from dataclasses import replace

from mtcore.recipe.algorithm import read_algorithm
from mtcore.recipe.document import Document, KeyPath
from mtcore.recipe.grammar import IncludeRule, RecipeModel, check, rule_model
from mtcore.recipe.inline import read_formats
from mtcore.recipe.parts import Guard, Parts, Scope, read_targets
from mtcore.recipe.rule_reader import RuleReader
from mtcore.recipe.setting import ExpertsSetting


def resolve_own(doc: Document, scope: Scope) -> Parts:
    """What a document in our grammar says. Problems are noted in the scope; what remains is then incomplete."""
    recipe = check(RecipeModel, doc.data, (), doc, scope.problems)
    if recipe is None:
        return Parts()
    parts = Parts()
    for index, name in enumerate(recipe.include):
        parts = _merged(parts, scope.include(name, ("include", index), doc))
    own_formats = read_formats(recipe.formats, scope.formats, doc, scope.problems)
    formats = {**parts.formats, **own_formats}
    scope = replace(scope, own_formats=formats)
    rules = list(parts.rules)
    notes = list(parts.notes)
    for index, entry in enumerate(recipe.rules):
        path: KeyPath = ("rules", index)
        rule = check(rule_model(entry), entry, path, doc, scope.problems)
        if isinstance(rule, IncludeRule):
            included = scope.include(rule.include, (*path, "include"), doc)
            rules += included.rules
            notes += included.notes
        elif rule is not None:
            statement = RuleReader(doc, scope, doc.origin(f"rule #{index + 1}", path))
            rules += statement.read(rule, entry, path)
    algorithm, guard = parts.algorithm, parts.guard
    if "algorithm" in recipe.model_fields_set:
        algorithm = read_algorithm(recipe.algorithm, ("algorithm",), doc, scope.problems)
    if recipe.max_unquantized is not None:
        guard = Guard(recipe.max_unquantized, doc.origin("max_unquantized", ("max_unquantized",)))
    experts = parts.experts
    if recipe.experts is not None:
        experts = ExpertsSetting(**recipe.experts.model_dump(), origin=doc.origin("experts", ("experts",)))
    return Parts(
        name=recipe.name or "",
        summary=recipe.summary,
        rules=tuple(rules),
        algorithm=algorithm,
        guard=guard,
        experts=experts,
        targets=read_targets(recipe.targets, doc) or parts.targets,
        formats=formats,
        notes=tuple(notes),
    )


def _merged(first: Parts, later: Parts) -> Parts:
    """Two includes as one: rules in order, single values of the later one."""
    return Parts(
        rules=first.rules + later.rules,
        algorithm=first.algorithm if later.algorithm is None else later.algorithm,
        guard=later.guard or first.guard,
        experts=later.experts or first.experts,
        targets=later.targets or first.targets,
        formats={**first.formats, **later.formats},
        notes=first.notes + later.notes,
    )
