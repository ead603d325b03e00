"""The corpus: fetches every source, cleans and deduplicates it, holds documents out, writes training text.

    python corpus.py --out corpus/        # on Debian bookworm; needs lxml, apt-get, dpkg-deb, pip

Writes `train.jsonl` (a document a line: source, path, text), `calibration.txt`, `evaluation.txt`,
`heldout.json` (which document lies where) and `report.json` (sha256; every source's version, licence, bytes).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from extract import documents
from fetch import fetch

HERE = Path(__file__).parent
SHINGLE = 12  # words; a training paragraph that shares one with the held-out text is dropped
HELDOUT_BYTES = 100_000  # per file
HELDOUT_SIZES = range(3_000, 16_000)  # bytes of a document that may be held out
MIN_DOCUMENT = 300  # bytes


class Document(NamedTuple):
    source: str
    path: str
    text: str


def build(out: Path, cache: Path, jobs: int) -> dict[str, Any]:
    """Build the corpus in `out` and return the report."""
    sources = tomllib.loads((HERE / "sources.toml").read_text())
    with ProcessPoolExecutor(jobs) as pool:
        found = list(pool.map(read_source, sources, sources.values(), [cache] * len(sources)))
    versions = {name: version for name, (version, _) in zip(sources, found, strict=True)}
    everything = deduplicate([doc for _, docs in found for doc in docs])
    heldout, train = hold_out(everything, {n for n, s in sources.items() if s.get("heldout")})
    train = without_overlap(train, [doc for part in heldout.values() for doc in part])

    out.mkdir(parents=True, exist_ok=True)
    for name, part in heldout.items():
        (out / f"{name}.txt").write_text("\n\n".join(doc.text for doc in part) + "\n")
    listing = {name: [[d.source, d.path] for d in part] for name, part in heldout.items()}
    (out / "heldout.json").write_text(json.dumps(listing, indent=1) + "\n")
    digest = hashlib.sha256()
    sizes = dict.fromkeys(sources, 0)
    with (out / "train.jsonl").open("wb") as file:
        for doc in train:
            line = json.dumps(doc._asdict()).encode() + b"\n"
            digest.update(line)
            file.write(line)
            sizes[doc.source] += len(doc.text.encode())
    report = {
        "sha256": digest.hexdigest(),
        "documents": len(train),
        "bytes": sum(sizes.values()),
        "sources": {
            n: {
                "package": s.get("package", "CPython"),
                "version": versions[n],
                "licence": s["licence"],
                "bytes": sizes[n],
            }
            for n, s in sources.items()
        },
    }
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def read_source(name: str, source: dict[str, Any], cache: Path) -> tuple[str, list[Document]]:
    """All clean documents of a source, in an order that a hash decides, up to its `max_bytes`."""
    version, files = fetch(source, cache)
    docs = [
        Document(name, label, clean(text))
        for path, raw in files
        for label, text in documents(source["kind"], path, raw)
    ]
    docs = sorted((d for d in docs if len(d.text) >= MIN_DOCUMENT), key=order)
    limit, kept = source.get("max_bytes", 1 << 40), []
    for doc in docs:
        if limit < 0:
            break
        limit -= len(doc.text)
        kept.append(doc)
    return version, kept


def order(doc: Document) -> bytes:
    """A fixed shuffle: where a document stands depends on its name alone."""
    return hashlib.sha256(f"{doc.source}/{doc.path}".encode()).digest()


def clean(text: str) -> str:
    """Normal line ends, no trailing blanks, one blank line between paragraphs; drops what is no text."""
    text = text.replace("\r\n", "\n").replace("\u00b6", "").replace("\u00a0", " ").expandtabs(4)
    text = re.sub(r"[^\S\n]+\n", "\n", text)
    text = re.sub(r"\n ?(?=\S)", "\n", text)
    return "\n\n".join(p for p in re.split(r"\n{2,}", text.strip()) if is_text(p))


def is_text(paragraph: str) -> bool:
    """Mostly ASCII, mostly letters and blanks, no word of 200 characters."""
    size = len(paragraph)
    if not paragraph.strip():
        return False
    ascii_share = len(paragraph.encode("ascii", "ignore")) / size
    letters = len(re.findall(r"[A-Za-z ]", paragraph)) / size
    enough = 0.65 if size > 200 else 0.5
    return ascii_share > 0.9 and letters > enough and not re.search(r"\S{200}", paragraph)


def deduplicate(docs: list[Document]) -> list[Document]:
    """Drop every paragraph of 40 characters or more that occurred before, anywhere."""
    seen: set[bytes] = set()
    result = []
    for doc in docs:
        kept = []
        for paragraph in doc.text.split("\n\n"):
            if len(paragraph) >= 40:
                key = hashlib.blake2b(" ".join(paragraph.split()).encode(), digest_size=8).digest()
                if key in seen:
                    continue
                seen.add(key)
            kept.append(paragraph)
        text = "\n\n".join(kept)
        if len(text) >= MIN_DOCUMENT:
            result.append(doc._replace(text=text))
    return sorted(result, key=order)


def hold_out(docs: list[Document], allowed: set[str]) -> tuple[dict[str, list[Document]], list[Document]]:
    """Take whole documents, one source after the other, until both held-out files are full."""
    queues = {
        name: [d for d in docs if d.source == name and len(d.text.encode()) in HELDOUT_SIZES]
        for name in sorted(allowed)
    }
    parts: dict[str, list[Document]] = {"calibration": [], "evaluation": []}
    for name, part in parts.items():
        size = 0
        while size < HELDOUT_BYTES:
            for queue in queues.values():
                if queue and size < HELDOUT_BYTES:
                    part.append(queue.pop(0))
                    size += len(part[-1].text.encode())
        assert size < HELDOUT_BYTES + HELDOUT_SIZES.stop, name
    taken = {(d.source, d.path) for part in parts.values() for d in part}
    return parts, [d for d in docs if (d.source, d.path) not in taken]


def shingles(text: str) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[i : i + SHINGLE])) for i in range(len(words) - SHINGLE + 1)}


def without_overlap(train: list[Document], heldout: list[Document]) -> list[Document]:
    """Drop training paragraphs that share twelve words in a row with a held-out document."""
    known = set().union(*(shingles(doc.text) for doc in heldout))
    result = []
    for doc in train:
        text = "\n\n".join(p for p in doc.text.split("\n\n") if known.isdisjoint(shingles(p)))
        if len(text) >= MIN_DOCUMENT:
            result.append(doc._replace(text=text))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("corpus"))
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="where downloads are kept")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    report = build(options.out, options.cache, options.jobs)
    print(f"{report['documents']} documents, {report['bytes'] / 1e6:.1f} MB, sha256 {report['sha256']}")


if __name__ == "__main__":
    main()
