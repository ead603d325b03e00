"""Our own grammar: the models that a recipe's text must fit, and the check that says where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mtcore.recipe.document import Document, KeyPath, Problems, unknown
from mtcore.recipe.setting import Mode, ModuleRole, Unseen, WhenStarved

OFF = "off"
"""In place of a format's name: the slot is switched off. YAML reads a bare `off` as false, which means the same."""


class _Model(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)


class SlotModel(_Model):
    """A format and how it is used: `nvfp4`, `off`, or `{format: nvfp4, mode: dynamic, amax: …, options: {…}}`."""

    format: str
    mode: Mode | None = None
    amax: float | None = Field(default=None, ge=2**-100, le=2**100, allow_inf_nan=False)
    options: dict[str, Any] = Field(default_factory=dict)


def _spell_out_slot(value: object) -> object:
    if value is False:
        return {"format": OFF}
    return {"format": value} if isinstance(value, str) else value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Slot = Annotated[SlotModel, BeforeValidator(_spell_out_slot)]
Texts = Annotated[list[str], BeforeValidator(_one_or_many)]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_one_or_many), Field(min_length=1)]
Globs = Names


class ModuleRule(_Model):
    """What the slots of some modules get; the field names of its slots are `SLOTS`."""

    modules: Globs = ["*"]
    type: str | None = None
    role: ModuleRole | None = None
    weight: Slot | None = None
    input: Slot | None = None
    output: Slot | None = None
    q: Slot | None = None
    k: Slot | None = None
    v: Slot | None = None
    softmax: Slot | None = None
    skip: bool = False


class QuantizerRule(_Model):
    """What quantizers get whose full name matches: for patterns that no module rule can say."""

    quantizers: Globs
    type: str | None = None
    role: ModuleRole | None = None
    only: Literal["weight", "activation", "any"] = "any"
    set: Slot | None = None
    enable: bool | None = None


class IncludeRule(_Model):
    """The rules of another recipe, at this place of the list."""

    include: str


class TogetherRule(_Model):
    """Several rules that are one statement: it is enough that one of them matches something."""

    together: list[Any] = Field(min_length=1)


class ExpertsModel(_Model):
    """What is done about experts that the data hardly reach; see `ExpertsSetting`."""

    min_tokens: int = Field(default=0, ge=0)
    when_starved: WhenStarved = "report"
    unseen: Unseen = "error"


class RecipeModel(_Model):
    """A whole recipe. Rules and algorithm are checked entry by entry, by their own models."""

    name: str | None = None
    summary: str = ""
    include: Texts = []
    formats: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rules: list[Any] = []
    algorithm: Any = None
    max_unquantized: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    experts: ExpertsModel | None = None
    targets: Names | None = None


Rule = ModuleRule | QuantizerRule | IncludeRule | TogetherRule

M = TypeVar("M", bound=BaseModel)


def rule_model(entry: Any) -> type[Rule]:
    """Which kind of rule an entry is: the key that only this kind has decides."""
    kinds: dict[str, type[Rule]] = {"quantizers": QuantizerRule, "include": IncludeRule, "together": TogetherRule}
    keys = entry if isinstance(entry, dict) else ()
    return next((kind for key, kind in kinds.items() if key in keys), ModuleRule)


def check(model: type[M], data: Any, path: KeyPath, doc: Document, problems: Problems) -> M | None:
    """`data` as a `model`. Every problem is noted at its place below `path`, and its key left out, so that the
    other keys are still looked at; None if nothing is left to look at."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        messages = list(_messages(model, error))
    for loc, message in messages:
        problems.add(doc.place((*path, *loc)), message)
    broken = {loc[0] for loc, _ in messages if loc}
    if not broken:
        return None
    try:
        return model.model_validate({key: value for key, value in data.items() if key not in broken})
    except ValidationError:
        return None


def _messages(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    for item in error.errors(include_url=False):
        loc = tuple(item["loc"])
        if item["type"] == "extra_forbidden":
            yield loc, unknown("key", loc[-1], list(_fields_at(model, loc[:-1])))
        else:
            yield loc, _said_plainly(item["type"], item["msg"], item["input"])


def _said_plainly(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "this key is missing"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    shown = repr(value)
    return f"{message[0].lower()}{message[1:]}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _fields_at(model: type[BaseModel], loc: KeyPath) -> tuple[str, ...]:
    """The keys that `model` knows at a location inside it: its own, or those of the model that is nested there."""
    nested = ExpertsModel if loc == ("experts",) else SlotModel
    return tuple((nested if loc else model).model_fields)
