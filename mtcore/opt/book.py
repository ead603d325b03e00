"""The score book: what choices cost, on the disk after every batch, so that no batch is scored twice."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtcore.errors import StateError
from mtcore.files import hash_sources, write_json
from mtcore.opt.scoring import Scores
from mtcore.opt.spec import SearcherSpec
from mtcore.opt.totals import Totals

VERSION = 1


@dataclass
class ScoreBook:
    """The totals of one searcher and some choices, in a file.

    Attributes:
        path: of the file, which is replaced as a whole.
        key: hashes of what the scores are of, by what a user calls it: "weights", "data", "code".
        of: batches of the data; 0 where that is not known yet.
        totals: over the batches that were scored.
    """

    path: Path
    key: dict[str, str]
    of: int = 0
    totals: Totals = field(default_factory=Totals)

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
        key = {**key, "code": hash_scoring(spec)}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']}; this mtcore reads version {VERSION}")
            other = [name for name, value in key.items() if found["key"][name] != value]
            totals = Totals(found["batches"], found["scores"])
            book = cls(path, {**found["key"], **key}, found["of"], totals)
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
    def batches(self) -> int:
        """How many are in the totals."""
        return self.totals.batches

    @property
    def complete(self) -> bool:
        """Whether all batches of the data are in the totals."""
        return 0 < self.batches == self.of

    def add(self, scores: Scores, of: int) -> None:
        """Keep the scores of the next batch, on the disk too.

        Raises:
            StateError: the disk is full, or the directory cannot be written.
        """
        self.totals.add(scores)
        self.of = of
        content = {
            "version": VERSION,
            "key": self.key,
            "batches": self.batches,
            "of": of,
            "scores": self.totals.sums,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, content)
        except OSError as error:
            raise StateError(
                f"{self.path}: the scores could not be written ({error.strerror or error}); those of "
                f"{self.batches - 1} batches are kept, and the same command goes on after them"
            ) from error


def hash_scoring(spec: SearcherSpec) -> str:
    """A hash of the code that scores, the searcher's own file among it; see `hash_sources`."""
    own = inspect.getsourcefile(spec.score)
    return hash_sources([Path(__file__).with_name("scoring.py"), *([Path(own)] if own is not None else [])])
