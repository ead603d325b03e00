"""The facade hands out what the rooms define, and imports nothing before it is asked."""

import subprocess
import sys

import pytest

import mtcore


def test_every_name_of_the_facade_is_there_and_documented():
    for name in mtcore.__all__:
        assert getattr(mtcore, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = mtcore.quantise


def test_the_version_is_that_of_the_distribution():
    assert mtcore.__version__.count(".") == 2


def test_importing_mtcore_imports_no_torch():
    code = "import sys, mtcore; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
