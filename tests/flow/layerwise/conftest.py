"""A toy checkpoint of three blocks in files, and a way to quantize it in two ways."""

from pathlib import Path

import pytest

from mtcore.flow import DataOptions, LayerwiseOptions, quantize_checkpoint
from mtcore.plugins import Registry
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    return write_toy_blocks(tmp_path_factory.mktemp("toy"), ToyShape())


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load([ToyBlocksPlugin()], discover=False)


@pytest.fixture
def quantize(toy, registry):
    """`quantize(recipe, out, layerwise options or None, …)`; data unless calib=None is said."""

    def run(recipe, out: Path, layerwise: LayerwiseOptions | None = LayerwiseOptions(), **more):  # noqa: B008
        options = {"calib": "some", "data": DataOptions(samples=4, length=16, batch_size=2), **more}
        return quantize_checkpoint(
            f"{SOURCE}{toy}", recipe, out, dialect="toy", registry=registry, layerwise=layerwise, **options
        )

    return run


@pytest.fixture
def content():
    """All files of a directory with their bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

    return read
