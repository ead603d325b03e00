"""The `algorithm` key, which all grammars share: a name, a mapping with its options, or a list of these."""

from __future__ import annotations

from mtcore.recipe.document import Document, KeyPath, Plain, Problems
from mtcore.recipe.setting import AlgorithmStep


def read_algorithm(data: Plain, path: KeyPath, doc: Document, problems: Problems) -> tuple[AlgorithmStep, ...]:
    """The steps in order; none for null. Their names and options are the planner's to check."""
    if data is None:
        return ()
    entries = data if isinstance(data, list) else [data]
    steps: list[AlgorithmStep] = []
    for index, entry in enumerate(entries):
        where = (*path, index) if isinstance(data, list) else path
        step = _step(entry, where, doc, problems)
        if step is not None:
            steps.append(step)
    return tuple(steps)


def _step(entry: Plain, path: KeyPath, doc: Document, problems: Problems) -> AlgorithmStep | None:
    origin = doc.origin("algorithm", path)
    if isinstance(entry, str):
        return AlgorithmStep(entry, origin=origin)
    if not isinstance(entry, dict):
        problems.add(doc.place(path), f"an algorithm is a name or a mapping with the key method, not {entry!r}")
        return None
    method = entry.get("method")
    if method is None and "method" in entry and len(entry) == 1:
        return None
    glued = next((key for key in entry if isinstance(key, str) and key.startswith("method:")), None)
    if glued is not None:  # YAML reads {method:gptq} as one word
        right = glued.replace(":", ": ", 1)
        problems.add(doc.place(path), f"{glued!r} is one word in YAML; write a space after the colon: {right}")
        return None
    if not isinstance(method, str):
        problems.add(doc.place((*path, "method")), f"the algorithm's name is missing or no text: {method!r}")
        return None
    options = {str(key): value for key, value in entry.items() if key != "method"}
    return AlgorithmStep(method, options, origin)
