"""Rules on the list of modules that stay as they are: what the writer meant is what each client does."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.lint import EVERYONE, Checkpoint, Hit, RuleSpec
from mtopt_hf.lint.ignore import any_match, ignored
from mtopt_hf.lint.names import is_head, is_router
from mtopt_hf.lint.rules.config import CLIENTS
from mtopt_hf.lint.view import Module, View, view_of

_KNOWN = ("compressed-tensors", "modelopt", "fp8", "gptq", "awq")


def quantized_ignored(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    for module in view.quantized:
        if not any(part.startswith(("weight", "qweight")) for part in module.parts):
            continue
        clients = tuple(client for client in CLIENTS if ignored(view.says, module.name, client))
        if len(clients) == len(CLIENTS):
            why = (
                "it is stored quantized, but the list says that it is not: its codes load as values, or not at all"
            )
            yield Hit(module.name, why, "take it off the list")


def too_wide(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    for module in view.quantized:
        clients = tuple(client for client in CLIENTS if ignored(view.says, module.name, client))
        if clients and len(clients) < len(CLIENTS):
            entry = next((entry for entry in view.says.ignore if entry.rstrip("*") in module.name), "an entry")
            why = f"{entry!r} is part of its name, and this client takes parts of names: it leaves the module alone"
            yield Hit(module.name, f"{why}, though it is stored quantized", "write whole names", clients)


def unlisted(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if view.says.method not in _KNOWN or not view.quantized:
        return
    for module in view.modules.values():
        if not (module.plain_linear and _said_quantized(view, module)):
            continue
        clients = tuple(client for client in CLIENTS if not ignored(view.says, module.name, client))
        if is_head(module.name):
            clients = tuple(client for client in clients if _quantizes_heads(view, client))
        if clients:
            why = "its weight is stored in floats, but nothing tells the client so: it waits for codes and scales"
            yield Hit(module.name, why, "add it to the list", clients)


def _said_quantized(view: View, module: Module) -> bool:
    if module.scheme is None or "visual" in module.name or "vision" in module.name:
        return module.scheme is not None and view.says.method == "compressed-tensors"
    return True


def _quantizes_heads(view: View, client: str) -> bool:
    """Servers hold the output layer as a class of its own, which the target `Linear` does not name."""
    return client == "transformers" if view.says.method == "compressed-tensors" else view.says.method == "modelopt"


def unmatched(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    if not view.modules:
        return
    known = {**view.modules, **{parent: None for name in view.modules for parent in _parents(name)}}
    tied = checkpoint.config.get("tie_word_embeddings", False) is not False
    for entry in view.says.ignore:
        if (is_head(entry) and tied) or (entry.isidentifier() and entry[:1].isupper()):
            continue
        if not entry.startswith("re:") and any(part in known for part in _parents(entry)[:1]) and is_router(entry):
            continue  # a router that holds its weight under another name
        if not any_match(view.says, entry, known):
            yield Hit(
                view.says.file, f"{entry!r} matches no module of the files", "correct it, or take it off the list"
            )


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def regex_elsewhere(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method in ("modelopt", "fp8", "awq"):
        for entry in says.ignore:
            if entry.startswith("re:"):
                why = f"{entry!r}: only compressed-tensors has regular expressions; here it matches nothing"
                yield Hit(says.file, why, "write whole names")


def glob_in_regex_dialect(checkpoint: Checkpoint) -> Iterator[Hit]:
    says = view_of(checkpoint).says
    if says.method == "compressed-tensors":
        for entry in says.ignore:
            if not entry.startswith("re:") and "*" in entry:
                why = f"{entry!r}: this dialect has no wildcards; only a module of exactly this name is left alone"
                yield Hit(says.file, why, "write re: and a regular expression, or whole names")


def fused_half(checkpoint: Checkpoint) -> Iterator[Hit]:
    view = view_of(checkpoint)
    for members in view.fused:
        states = {member.stored_quantized for member in members}
        if len(states) > 1:
            plain = ", ".join(member.name.rpartition(".")[2] for member in members if not member.stored_quantized)
            rest = members[0].name.rpartition(".")[0]
            every = ", ".join(member.name.rpartition(".")[2] for member in members)
            why = f"{plain} stays in floats; servers join {every} and raise"
            yield Hit(rest, why, "quantize all of them, or none")


RULES = (
    RuleSpec(
        "ignore-quantized", "no quantized module is on the ignore list", {EVERYONE: "error"}, quantized_ignored
    ),
    RuleSpec(
        "ignore-too-wide",
        "an entry does not reach further in one client than in another",
        {"vllm": "error", "trtllm": "error", "sglang": "error"},
        too_wide,
    ),
    RuleSpec("ignore-missing", "every float layer is on the ignore list", {EVERYONE: "error"}, unlisted),
    RuleSpec("ignore-unmatched", "every entry of the list names a module", {EVERYONE: "warning"}, unmatched),
    RuleSpec("ignore-regex", "re: entries stand in compressed-tensors only", {EVERYONE: "error"}, regex_elsewhere),
    RuleSpec(
        "ignore-glob", "compressed-tensors lists have no wildcards", {EVERYONE: "error"}, glob_in_regex_dialect
    ),
    RuleSpec(
        "fused-half",
        "layers that a server joins are all quantized, or none",
        {"vllm": "error", "trtllm": "error", "sglang": "error"},
        fused_half,
    ),
)
