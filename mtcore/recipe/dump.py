"""A resolved configuration written in our own grammar, so that it can be read, kept and loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import yaml

from mtcore.formats import TensorFormat
from mtcore.recipe.inline import format_fields
from mtcore.recipe.setting import AlgorithmStep, ExpertsSetting, QuantizeConfig, SlotRule, SlotSetting


def to_dict(config: QuantizeConfig, *, formats: Mapping[str, TensorFormat]) -> dict[str, Any]:
    """The configuration as plain data; `load_config` gives equal rules for it (origins apart).

    Includes are gone: every rule stands by itself, over full quantizer names. Formats that `formats` does not have
    are written out under `formats`.
    """
    settings = [rule.setting for rule in config.rules if rule.setting is not None]
    unknown = {
        setting.format.name: setting.format for setting in settings if not _is_known(setting.format, formats)
    }
    return {
        "name": config.name,
        **({"summary": config.summary} if config.summary else {}),
        **({"formats": {name: format_fields(fmt) for name, fmt in unknown.items()}} if unknown else {}),
        "rules": [_statement(rules) for rules in _statements(config.rules)],
        "algorithm": [_step(step) for step in config.algorithm],
        "max_unquantized": config.max_unquantized,
        **({} if config.experts == ExpertsSetting() else {"experts": _experts(config.experts)}),
        **({"targets": list(config.targets)} if config.targets else {}),
    }


def _experts(setting: ExpertsSetting) -> dict[str, Any]:
    return {"min_tokens": setting.min_tokens, "when_starved": setting.when_starved, "unseen": setting.unseen}


def to_yaml(config: QuantizeConfig, *, formats: Mapping[str, TensorFormat]) -> str:
    """The same as text, where a comment above every value tells who said it."""
    data = to_dict(config, formats=formats)
    lines = [_block({key: data[key] for key in ("name", "summary", "formats") if key in data})]
    lines.append("rules:\n" if data["rules"] else "rules: []\n")
    for rules, entry in zip(_statements(config.rules), data["rules"], strict=True):
        modes = {rule.setting.mode_origin: None for rule in rules if rule.setting is not None}
        mode = f"; mode: {' or '.join(modes)}" if modes else ""
        lines.append(f"  {_comment(rules[0].origin + mode)}  - {_line(entry)}")
    lines.append("algorithm:\n" if data["algorithm"] else "algorithm: []\n")
    for step, entry in zip(config.algorithm, data["algorithm"], strict=True):
        lines.append(f"  {_comment(step.origin)}  - {_line(entry)}")
    lines.append(_comment(config.guard_origin))
    lines.append(_block({"max_unquantized": config.max_unquantized}))
    if "experts" in data:
        lines.append(_comment(config.experts.origin) + _block({"experts": data["experts"]}))
    if config.targets:
        lines.append(_comment(config.targets_origin) + _block({"targets": data["targets"]}))
    lines += [_comment(f"note: {note}") for note in config.notes]
    return "".join(lines)


def _is_known(fmt: TensorFormat, formats: Mapping[str, TensorFormat]) -> bool:
    return fmt.name in formats and formats[fmt.name] == fmt


def _statements(rules: tuple[SlotRule, ...]) -> list[list[SlotRule]]:
    """Neighbouring rules of one origin, which are one statement."""
    return [list(group) for _, group in groupby(rules, key=lambda rule: rule.origin)]


def _statement(rules: list[SlotRule]) -> dict[str, Any]:
    """One entry of the list of rules: rules that differ in their pattern only share it."""
    entries: list[dict[str, Any]] = []
    for rule in rules:
        entry = _rule(rule)
        same = entries and {**entries[-1], "quantizers": None} == {**entry, "quantizers": None}
        if same:
            entries[-1]["quantizers"] += entry["quantizers"]
        else:
            entries.append(entry)
    for entry in entries:
        if len(entry["quantizers"]) == 1:
            entry["quantizers"] = entry["quantizers"][0]
    return entries[0] if len(entries) == 1 else {"together": entries}


def _rule(rule: SlotRule) -> dict[str, Any]:
    return {
        "quantizers": [rule.pattern],
        **({"type": rule.module_type} if rule.module_type is not None else {}),
        **({"role": rule.role} if rule.role is not None else {}),
        **({"only": rule.only} if rule.only != "any" else {}),
        **({"set": _setting(rule.setting)} if rule.setting is not None else {}),
        **({"enable": rule.enable} if rule.setting is None or not rule.enable else {}),
    }


def _setting(setting: SlotSetting) -> dict[str, Any]:
    options = {"options": dict(setting.options)} if setting.options else {}
    amax = {} if setting.amax is None else {"amax": setting.amax}
    return {"format": setting.format.name, "mode": setting.mode, **amax, **options}


def _step(step: AlgorithmStep) -> dict[str, Any]:
    return {"method": step.method, **step.options}


def _block(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=110)


def _line(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, default_flow_style=True, width=2**20)


def _comment(text: str) -> str:
    return f"# {''.join(char if char.isprintable() else ' ' for char in text)}\n"
