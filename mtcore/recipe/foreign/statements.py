"""The two forms of quant_cfg, a list of entries and a dict of patterns, read as one sequence of statements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mtcore.recipe.document import Document, KeyPath, Plain, Problems
from mtcore.recipe.foreign.attributes import Attributes
from mtcore.recipe.grammar import check

_ROOT = "quant_cfg"


@dataclass(frozen=True)
class Statement:
    """These quantizers get these attributes, or are switched on or off.

    Attributes:
        label: the statement's name in messages: "quant_cfg entry #2 ('*lm_head*')".
        pattern: over Model-Optimizer's quantizer names.
        module_type: registry key of the module that holds the quantizer, or None for any.
        cfg: one mapping of attributes, or a list of them for stages; None where the statement only toggles.
        enable: the switch; None where it is not said.
        path: where the statement stands.
        cfg_path: where its attributes stand.
    """

    label: str
    pattern: str
    module_type: str | None
    cfg: Plain
    enable: bool | None
    path: KeyPath
    cfg_path: KeyPath


class _Entry(BaseModel):
    """One entry of the list form."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

    quantizer_name: str = Field(min_length=1)
    parent_class: str | None = None
    cfg: Any = None
    enable: bool | None = None


def statements_of(quant_cfg: Plain, doc: Document, problems: Problems) -> Iterator[Statement]:
    """The statements in the order in which they apply. Entries that cannot be read are noted and left out."""
    if isinstance(quant_cfg, list):
        yield from _listed(quant_cfg, doc, problems)
    elif isinstance(quant_cfg, dict):
        # What every quantizer starts from comes first, wherever it stands.
        for key in sorted(quant_cfg, key=lambda key: key != "default"):
            yield from _keyed(key, quant_cfg[key], (_ROOT,))
    else:
        message = f"it is a list of entries or a mapping of patterns, not {quant_cfg!r}"
        problems.add(doc.place((_ROOT,)), message)


def _listed(entries: list[Plain], doc: Document, problems: Problems) -> Iterator[Statement]:
    for index, item in enumerate(entries):
        path: KeyPath = (_ROOT, index)
        if (only := _single_key(item)) is not None and isinstance(item, dict):
            yield from _keyed(only, item[only], path)
            continue
        entry = check(_Entry, item, path, doc, problems)
        if entry is not None:
            label = f"{_ROOT} entry #{index + 1} ({entry.quantizer_name!r})"
            cfg, enable = _toggle_apart(entry.cfg, entry.enable)
            yield Statement(label, entry.quantizer_name, entry.parent_class, cfg, enable, path, (*path, "cfg"))


def _single_key(item: Plain) -> str | int | None:
    """The key of an entry that is written as in the dict form, `{pattern: attributes}`; None for any other."""
    if not isinstance(item, dict) or len(item) != 1:
        return None
    ((key, value),) = item.items()
    return key if isinstance(value, dict | list) and key not in _Entry.model_fields else None


def _keyed(key: str | int, value: Plain, above: KeyPath) -> Iterator[Statement]:
    path: KeyPath = (*above, key)
    where = ".".join(map(str, above))
    if not _is_module_type(str(key), value):
        pattern = "*" if key == "default" else str(key)
        cfg, enable = _toggle_apart(value, None)
        yield Statement(f"{where}[{key!r}]", pattern, None, cfg, enable, path, path)
        return
    assert isinstance(value, dict)
    for inner, item in value.items():
        cfg, enable = _toggle_apart(item, None)
        below: KeyPath = (*path, inner)
        yield Statement(f"{where}[{key!r}][{inner!r}]", str(inner), str(key), cfg, enable, below, below)


def _is_module_type(key: str, value: Plain) -> bool:
    """Whether a key of the dict form names a module type: then patterns lie below it, not attributes."""
    if not isinstance(value, dict) or not value or any(name in Attributes.model_fields for name in value):
        return False
    return key.startswith("nn.") or all(isinstance(item, dict | list) for item in value.values())


def _toggle_apart(cfg: Plain, enable: bool | None) -> tuple[Plain, bool | None]:
    """Attributes and switch, where attributes that hold nothing but the switch count as none."""
    if isinstance(cfg, dict) and set(cfg) == {"enable"} and isinstance(cfg["enable"], bool):
        return None, cfg["enable"] if enable is None else enable
    if enable is False and cfg in ({}, []):
        return None, False
    return cfg, enable
