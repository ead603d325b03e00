"""Fetching: brings a source's files to this machine and lists them as (path, bytes)."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import io
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RawFile = tuple[str, bytes]  # path inside the source, content


def fetch(source: dict[str, Any], cache: Path) -> tuple[str, Iterator[RawFile]]:
    """Return the version of the source and its files, wanted ones only. Downloads once, into `cache`."""
    match source["kind"]:
        case "deb":
            return _deb(source["package"], cache / "deb", source)
        case "wheel":
            return _wheel(source["package"], cache / "whl", "*.py")
        case "botocore":
            return _wheel(source["package"], cache / "whl", "*/service-2.json.gz")
        case "installed":
            return importlib.metadata.version(source["package"]), _installed(source["package"])
        case "stdlib":
            return sys.version.split()[0], _stdlib()
        case "topics":
            return sys.version.split()[0], _topics()
        case other:
            raise SystemExit(f"sources.toml: unknown kind {other!r}")


def _wanted(path: str, source: dict[str, Any]) -> bool:
    return any(fnmatch.fnmatch(path, p) for p in source["include"]) and not any(
        fnmatch.fnmatch(path, p) for p in source.get("exclude", ())
    )


def _deb(package: str, cache: Path, source: dict[str, Any]) -> tuple[str, Iterator[RawFile]]:
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=cache, check=True, capture_output=True)
    (deb,) = cache.glob(f"{package}_*.deb")
    version = deb.name.split("_")[1].replace("%3a", ":")

    def files() -> Iterator[RawFile]:
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            for member in archive:
                if member.isfile() and _wanted(member.name, source):
                    handle = archive.extractfile(member)
                    assert handle is not None
                    yield member.name, handle.read()

    return version, files()


def _wheel(package: str, cache: Path, pattern: str) -> tuple[str, Iterator[RawFile]]:
    cache.mkdir(parents=True, exist_ok=True)
    stem = package.replace("-", "_")
    if not list(cache.glob(f"{stem}-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", cache]
        subprocess.run([*map(str, pip), package], check=True)
    (wheel,) = cache.glob(f"{stem}-*.whl")

    def files() -> Iterator[RawFile]:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if fnmatch.fnmatch(name, pattern) and "/tests/" not in name:
                    yield name, archive.read(name)

    return wheel.name.split("-")[1], files()


def _installed(package: str) -> Iterator[RawFile]:
    for entry in sorted(importlib.metadata.files(package) or (), key=str):
        if entry.suffix == ".py" and "tests" not in entry.parts and entry.locate().exists():
            yield str(entry), Path(str(entry.locate())).read_bytes()


def _stdlib() -> Iterator[RawFile]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not {"site-packages", "dist-packages", "test", "tests", "pydoc_data"} & set(parts):
            yield "/".join(parts), path.read_bytes()


def _topics() -> Iterator[RawFile]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"{name}.txt", topics[name].encode()
