"""The kit as a plugin author meets it: a subclass in a test file, run by pytest."""

import mtcore.testing  # noqa: F401  imported once here, not again in every run inside a test

pytest_plugins = ["pytester"]

QUICK = ("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
"""Without the plugin that imports all of hypothesis once more at the end of a run."""

HEAD = """
    import pytest
    from mtcore.formats import PER_TENSOR, Float32Element, Scale, TableElement, TensorFormat
    from mtcore.testing import FormatContract

    ELEMENT = TableElement("quarters", (-1.0, {entry}, 0.0, 1.0))

    class TestMine(FormatContract):
        @pytest.fixture
        def fmt(self):
            return TensorFormat("mine", ELEMENT, (Scale(Float32Element(), PER_TENSOR),), summary="mine")
"""

STATED = """
        @pytest.fixture
        def stated_values(self):
            return [-1.0, -0.5, 0.0, 1.0]
"""


def test_a_good_format_passes_every_test_of_its_contract(pytester):
    pytester.makepyfile(HEAD.format(entry=-0.5) + STATED)
    outcomes = pytester.runpytest_inprocess(*QUICK).parseoutcomes()
    assert outcomes == {"passed": outcomes["passed"]}
    assert outcomes["passed"] > 10


def test_one_wrong_entry_fails_one_test_that_shows_it(pytester):
    pytester.makepyfile(HEAD.format(entry=-0.25) + STATED)
    result = pytester.runpytest_inprocess(*QUICK)
    result.stdout.fnmatch_lines(["*first differing element [[]1[]] is -0.25, expected -0.5 (1 of 4 differ)*"])
    assert result.parseoutcomes()["failed"] == 1


def test_a_fixture_that_was_not_overridden_says_so(pytester):
    pytester.makepyfile(HEAD.format(entry=-0.5))
    result = pytester.runpytest_inprocess(*QUICK, "-k", "stated")
    result.stdout.fnmatch_lines(["*override the fixture `stated_values`: the value of every code*"])


def test_plain_assertions_explain_themselves(pytester):
    pytester.makepyfile(
        """
        from mtcore.formats import PER_TENSOR, Float32Element, Scale, TableElement, TensorFormat
        from mtcore.testing import FormatContract

        def test_two_lines():
            element = TableElement("quarters", (-1.0, -0.5, 0.0, 1.0))
            scales = (Scale(Float32Element(), PER_TENSOR),)
            fmt = TensorFormat("mine", element, scales, summary="two" + chr(10) + "lines")
            FormatContract().test_the_summary_is_one_line(fmt)
        """
    )
    result = pytester.runpytest_inprocess(*QUICK)
    result.stdout.fnmatch_lines(["*assert '\\n' not in 'two\\nlines'*"])
