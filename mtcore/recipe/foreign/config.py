"""A foreign configuration as ours: its list or dict of patterns becomes rules in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mtcore.errors import FormatError, UnknownNameError
from mtcore.formats import TensorFormat
from mtcore.recipe.algorithm import read_algorithm
from mtcore.recipe.document import Document, KeyPath, Plain
from mtcore.recipe.expand import kinds_reached, rules_for
from mtcore.recipe.foreign.algorithms import translated
from mtcore.recipe.foreign.attributes import NO_EFFECT, ONLY_DEFAULT, Attributes, is_default
from mtcore.recipe.foreign.element import UntranslatableError, in_two_stages, translate
from mtcore.recipe.foreign.patterns import rewritten
from mtcore.recipe.foreign.statements import Statement, statements_of
from mtcore.recipe.grammar import Names, check
from mtcore.recipe.parts import Guard, Parts, Scope, read_targets
from mtcore.recipe.setting import (
    DEFAULT_MODE,
    Mode,
    SlotRule,
    SlotSetting,
    amax_problem,
    default_mode,
    mode_problem,
)


def is_foreign(data: Plain) -> bool:
    """Whether a document is in a foreign grammar: only these have `quant_cfg`."""
    return isinstance(data, dict) and "quant_cfg" in data


class _Config(BaseModel):
    """The top of a foreign configuration; `name`, `summary`, `max_unquantized` and `targets` are ours."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

    quant_cfg: Any
    algorithm: Any = "max"
    effective_bits: Any = None
    name: str | None = None
    summary: str = ""
    max_unquantized: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    targets: Names | None = None


def resolve_foreign(doc: Document, scope: Scope) -> Parts:
    """What a document in a foreign grammar says. Problems are noted in the scope.

    Every quantizer starts switched off, output quantizers too; a pattern that matches them switches them on.
    """
    config = check(_Config, doc.data, (), doc, scope.problems)
    if config is None:
        return Parts()
    translation = _Translation(doc, scope)
    for statement in statements_of(config.quant_cfg, doc, scope.problems):
        translation.add(statement)
    if config.effective_bits is not None:
        translation.note("effective_bits", "the plan works the bits an element out itself")
    guard = None
    if config.max_unquantized is not None:
        guard = Guard(config.max_unquantized, doc.origin("max_unquantized", ("max_unquantized",)))
    algorithm = None
    if "algorithm" in config.model_fields_set:
        algorithm = tuple(
            meant
            for step in read_algorithm(config.algorithm, ("algorithm",), doc, scope.problems)
            for meant in translated(step, translation.note, partial(translation.problem, ("algorithm",)))
        )
    return Parts(
        name=config.name or "",
        summary=config.summary,
        rules=tuple(_with_alternatives(translation.rules)),
        algorithm=algorithm,
        guard=guard,
        targets=read_targets(config.targets, doc),
        notes=tuple(translation.notes),
    )


def _with_alternatives(rules: list[SlotRule]) -> Iterator[SlotRule]:
    """Rules with one setting are alternatives: a foreign configuration lists one pattern for each family of models,
    of which a model need only know one."""
    first: dict[tuple[SlotSetting | None, bool, str], str] = {}
    for rule in rules:
        yield replace(rule, alternatives=first.setdefault((rule.setting, rule.enable, rule.only), rule.origin))


@dataclass
class _Translation:
    """The rules and notes of one document while its statements are read in order."""

    doc: Document
    scope: Scope
    rules: list[SlotRule] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str) -> None:
        self.scope.problems.add(self.doc.place(path), message)

    def note(self, what: str, why: str) -> None:
        self.notes[f"{what} of {self.doc.title} has no effect: {why}"] = None

    def add(self, said: Statement) -> None:
        """Turn one statement into rules, or note what is wrong with it."""
        what, cfg, enable = said.label, said.cfg, said.enable
        toggles_off = cfg is None and enable is False
        pattern = rewritten(said.pattern)
        if pattern is None or not kinds_reached(pattern):
            if enable is False or (isinstance(cfg, dict) and cfg.get("enable") is False):
                self.note(what, "no quantizer has such a name here")
            else:
                self.problem(said.path, f"no quantizer's name can match {said.pattern!r} here")
            return
        if toggles_off and pattern == "*" and said.module_type is None and not self.rules:
            self.note(what, "every quantizer starts switched off")
            return
        origin = self.doc.origin(what, said.path)
        if cfg is None:
            if enable is None:
                self.problem(said.path, "the entry says nothing; give it cfg or enable")
            else:
                self.rules.append(SlotRule(pattern, None, enable, origin, said.module_type))
            return
        stages = self._stages(cfg, said)
        if stages:
            on = all(stage.enable for stage in stages) if enable is None else enable
            self.rules += rules_for(
                pattern,
                lambda is_weight: self._setting(stages, said.cfg_path, is_weight=is_weight),
                enable=on,
                origin=origin,
                module_type=said.module_type,
            )

    def _stages(self, cfg: Plain, said: Statement) -> list[Attributes]:
        """The attributes of every stage of a quantizer: one, or several in a list; none after a problem."""
        listed = isinstance(cfg, list)
        items = cfg if isinstance(cfg, list) else [cfg]
        if cfg in ([], {}):
            self.problem(said.cfg_path, "it names no attribute; to switch quantizers on or off, give enable alone")
            return []
        stages: list[Attributes] = []
        for index, item in enumerate(items):
            path = (*said.cfg_path, index) if listed else said.cfg_path
            known_problems = len(self.scope.problems)
            stage = check(Attributes, item, path, self.doc, self.scope.problems)
            if stage is None:
                continue
            for name in sorted(stage.model_fields_set):
                if name in NO_EFFECT:
                    self.note(f"{name} in {said.label}", NO_EFFECT[name])
                elif name in ONLY_DEFAULT and is_default(name, getattr(stage, name)):
                    self.note(f"{name} in {said.label}", "it is at its default")
                elif name in ONLY_DEFAULT:
                    message = f"{getattr(stage, name)!r} cannot be honoured: {ONLY_DEFAULT[name]}"
                    self.problem((*path, name), message)
            if len(self.scope.problems) == known_problems:
                stages.append(stage)
        return stages if len(stages) == len(items) else []

    def _setting(self, stages: list[Attributes], path: KeyPath, *, is_weight: bool) -> SlotSetting | None:
        kind = "weights" if is_weight else "activations"
        try:
            formats = [self._format(stage, is_weight=is_weight) for stage in stages]
            fmt = formats[0] if len(formats) == 1 else self._staged(formats)
        except (UntranslatableError, FormatError, UnknownNameError) as error:
            self.problem(path, f"for {kind}: {error}")
            return None
        mode, mode_origin = _mode(stages[0], fmt, is_weight=is_weight)
        problem = mode_problem(fmt, mode, is_weight=is_weight)
        if problem is not None:
            self.problem(path, f"for {kind}: {problem}")
            return None
        amax = stages[0].fixed_amax
        if amax is not None and (problem := amax_problem(fmt, mode, is_weight=is_weight)) is not None:
            self.problem(path, f"for {kind}: {problem}")
            return None
        return SlotSetting(fmt, mode, mode_origin=mode_origin, amax=amax)

    def _format(self, stage: Attributes, *, is_weight: bool) -> TensorFormat:
        if stage.format is None:
            return translate(stage, self.scope.formats, is_weight=is_weight)
        clashing = stage.model_fields_set & {"axis", "block_sizes", "unsigned", "narrow_range"}
        if clashing:
            raise UntranslatableError(
                f"format says all about the stored values; {', '.join(sorted(clashing))} cannot too"
            )
        fmt = self.scope.find_format(stage.format)
        stated = stage.num_bits if isinstance(stage.num_bits, int) else sum(stage.num_bits, start=1)
        if "num_bits" in stage.model_fields_set and stated != fmt.element.bits:
            raise UntranslatableError(
                f"num_bits {stage.num_bits} contradicts format {fmt.name} ({fmt.element.bits} bits)"
            )
        return fmt

    def _staged(self, formats: list[TensorFormat]) -> TensorFormat:
        if len(formats) > 2:
            raise UntranslatableError(f"{len(formats)} stages; a quantizer has one or two")
        return in_two_stages(formats[0], formats[1], self.scope.formats)


def _mode(stage: Attributes, fmt: TensorFormat, *, is_weight: bool) -> tuple[Mode, str]:
    """The mode of a slot and who chose it: weights keep their scales, activations follow the attributes' types."""
    if is_weight:
        return "static", DEFAULT_MODE
    if stage.type == "dynamic":
        return "dynamic", "stated"
    if stage.block_sizes is not None and stage.block_sizes.dynamic:
        return ("dynamic_blocks" if fmt.outer is not None else "dynamic"), "stated"
    if stage.format is not None and "type" not in stage.model_fields_set:
        return default_mode(fmt, is_weight=False), DEFAULT_MODE
    return "static", "stated" if "type" in stage.model_fields_set else DEFAULT_MODE
