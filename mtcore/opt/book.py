"""The score book: what choices cost, on the disk after every batch, so that no batch is scored twice."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mtcore import __version__
from mtcore.errors import StateError
from mtcore.files import write_json
from mtcore.opt.decisions import Decision
from mtcore.opt.scoring import Scores
from mtcore.opt.spec import SearcherSpec

VERSION = 1


@dataclass
class ScoreBook:
    """Sums of scores over the first batches of the data.

    Attributes:
        path: of the file, which is replaced as a whole.
        key: hashes of what the scores are of, by what a user calls it: "weights", "data", "code".
        batches: that are in the sums.
        of: batches of the data; 0 where that is not known yet.
        sums: by decision and choice.
    """

    path: Path
    key: dict[str, str]
    batches: int = 0
    of: int = 0
    sums: Scores = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path, spec: SearcherSpec, choices: str, key: Mapping[str, str]) -> ScoreBook:
        """The book of a directory for one searcher and some choices; an empty one where there is none yet.

        Args:
            choices: a hash of all that the choices are.
            key: what is to hold. A part that is left out may be any.

        Raises:
            StateError: the scores there are of something else, which is named; or the file is damaged.
        """
        path = directory / f"scores-{spec.name}-{choices[:16]}.json"
        key = {**key, "code": hash_code(spec)}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']}; this mtcore reads version {VERSION}")
            other = [name for name, value in key.items() if found["key"][name] != value]
            book = cls(path, {**found["key"], **key}, found["batches"], found["of"], found["scores"])
        except FileNotFoundError:
            return cls(path, dict(key))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path}: no scores of mtcore ({error}); remove it and search again") from error
        if other:
            raise StateError(
                f"{path}: these are scores of other {' and other '.join(other)}; name another directory of "
                "statistics, or remove this file"
            )
        return book

    @property
    def complete(self) -> bool:
        """Whether all batches of the data are in the sums."""
        return 0 < self.batches == self.of

    def add(self, scores: Scores, of: int) -> None:
        """Keep the scores of the next batch, on the disk too.

        Raises:
            StateError: the disk is full, or the directory cannot be written.
        """
        for name, by_choice in scores.items():
            sums = self.sums.setdefault(name, {})
            for choice, score in by_choice.items():
                sums[choice] = sums.get(choice, 0.0) + score
        self.batches, self.of = self.batches + 1, of
        content = {"version": VERSION, "key": self.key, "batches": self.batches, "of": of, "scores": self.sums}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, content)
        except OSError as error:
            raise StateError(
                f"{self.path}: the scores could not be written ({error.strerror or error}); those of "
                f"{self.batches - 1} batches are kept, and the same command goes on after them"
            ) from error

    def means(self, decisions: Sequence[Decision]) -> Scores:
        """The cost of every choice, averaged over the batches.

        Raises:
            StateError: a decision was never reached.
        """
        scored = [decision.name for decision in decisions if len(decision.bits) > 1]
        missing = [name for name in scored if name not in self.sums]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise StateError(
                f"{missing[0]}{more}: the data never reached it, so that what rounding costs there is not known; "
                "give data that do, or recipes that leave it out"
            )
        return {
            name: {choice: total / self.batches for choice, total in by_choice.items()}
            for name, by_choice in self.sums.items()
        }


def hash_code(spec: SearcherSpec) -> str:
    """SHA-256 over the source of what scores, the searcher's own file among it, and versions."""
    digest = hashlib.sha256(f"{__version__} {torch.__version__}".encode())
    own = inspect.getsourcefile(spec.score)
    files = [Path(__file__).with_name("scoring.py"), *([Path(own)] if own is not None else [])]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
