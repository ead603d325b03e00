"""A trace in words."""

from mtcore.cli.trace_view.words import pin_in_words, problems, proof_in_words, summary
from mtcore.flow import CheckpointTrace
from mtcore.trace import AxisPin, Count, Failure, Proof, TraceReport


def test_every_problem_is_named():
    report = TraceReport(
        "Net",
        uncalled=("layers.0.x", "layers.1.x"),
        failures=(Failure("layers.2", "ValueError: no"), Failure("", "ValueError: no")),
        unknown_ops=(Count("aten::odd", 2),),
        rule_errors=(Count("aten::bad: TypeError", 1),),
    )
    trace = CheckpointTrace("zoo", report, {}, Proof(report, ("fold a: outputs change",), 0.0))
    assert problems(trace) == [
        ("failed", "layers.2: ValueError: no"),
        ("dropped", "fold a: outputs change"),
        ("rule error", "aten::bad: TypeError (1 times); its operands are pinned"),
        ("unknown op", "aten::odd (2 times); its operands are pinned"),
        ("not called", "layers.[0-1].x"),
    ]


def test_the_proof_is_told_with_its_error(net, traced):
    trace = traced(net(2), removals=True)
    assert proof_in_words(trace).startswith(f"verified: all {len(trace.report.folds)} fold groups scaled at random")
    assert proof_in_words(trace).endswith("0 groups dropped")
    assert proof_in_words(traced(net(1))) == ""


def test_the_summary_counts(net, traced):
    assert summary(traced(net(2))).startswith("Net: 13 modules called, 2 shared inputs")


def test_a_pin_says_how_much_is_pinned():
    assert pin_in_words(AxisPin("w", (0,), 4, 0, 0, ())) == "w axis 0: all 4 scales are free"
    assert pin_in_words(AxisPin("w", (0,), 4, 2, 1, ("w goes",))) == "w axis 0: 2 of 4 scales are pinned; index 1:"
    assert pin_in_words(AxisPin("w", (0,), 4, 2, 3, ())).endswith("index 3; this one is free")
