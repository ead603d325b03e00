"""Groups of every kind in one form."""

from mtcore.cli.trace_view.groups import groups_of
from mtcore.trace import (
    AttentionSite,
    BlockGroup,
    FoldGroup,
    SharedInputGroup,
    Slices,
    StackedWeight,
    SymGroup,
    TraceReport,
)

SHAPES = {"a.q": (8, 4), "a.k": (4, 4), "a.v": (4, 4), "a.o": (4, 8), "m.w": (2, 6, 4)}


def rows(name, n, channels, axis=0):
    return Slices(name, (axis,), tuple(range(n)), channels)


def test_a_fold_says_what_is_multiplied_and_what_is_divided():
    fold = FoldGroup("f", 4, (rows("a.v", 4, (0, 1, 2, 3)),), (rows("a.o", 4, (0, 1, 2, 3), axis=1),))
    (group,) = groups_of(TraceReport("Net", folds=(fold,)), SHAPES)
    assert [(member.sign, member.name, member.place) for member in group.members] == [
        ("\u00d7", "a.v", "[0]"),
        ("\u00f7", "a.o", "[1: 0:4]"),
    ]
    assert group.members[1].share == "4 of 8"


def test_a_part_of_a_stack_is_counted_over_all_its_axes():
    part = Slices("m.w", (0, 1), (0, 1, 2, 6, 7, 8), (0, 1, 2, 3, 4, 5))
    (group,) = groups_of(TraceReport("Net", folds=(FoldGroup("f", 6, (part,), ()),)), SHAPES)
    assert group.members[0].place == "[0,1: 0:3,6:9]"


def test_indices_that_take_long_to_say_are_counted():
    part = Slices("a.q", (0,), (0, 2, 3, 5, 6, 7), (0, 1, 2, 3, 4, 5))
    (group,) = groups_of(TraceReport("Net", folds=(FoldGroup("f", 6, (part,), ()),)), {"a.q": (800, 4)})
    assert group.members[0].place == "[0: 0,2:4,5:8]"
    long = Slices("a.q", (0,), (*range(100, 800, 101), 1, 3, 4), tuple(range(10)))
    (group,) = groups_of(TraceReport("Net", folds=(FoldGroup("f", 10, (long,), ()),)), {"a.q": (800, 4)})
    assert group.members[0].place == "[0: 10 of 800]"


def test_a_shared_input_is_a_group_of_modules():
    (group,) = groups_of(TraceReport("Net", shared_inputs=(SharedInputGroup("s", ("a.x", "a.y")),)), {})
    assert (group.lane, group.size, group.members[0].place) == ("shared input", 2, "")


def attention(sharing):
    """Two blocks; `sharing` query heads of two rows read one head of keys and values."""
    wide, narrow = 4 * sharing, 4
    shapes = {"a.q": (wide, 4), "a.k": (narrow, 4), "a.v": (narrow, 4), "a.o": (4, wide)}

    def half(n):
        return tuple(2 * i // n for i in range(n))

    values = SymGroup(
        "vo",
        narrow,
        (
            rows("a.v", narrow, tuple(range(narrow))),
            rows("a.o", wide, tuple(i % narrow for i in range(wide)), axis=1),
        ),
        "dynamic",
        "removed by blocks",
    )
    members = tuple(rows(n, shapes[n][0], half(shapes[n][0])) for n in ("a.q", "a.k", "a.v"))
    block = BlockGroup("heads", 2, (*members, rows("a.o", wide, half(wide), axis=1)), "searchable", "")
    site = AttentionSite("a", "sdpa")
    return TraceReport("Net", symbols=(values,), blocks=(block,), attentions=(site,)), shapes


def test_blocks_of_an_attention_are_heads():
    assert [group.kind for group in groups_of(*attention(1))] == ["channels", "heads"]


def test_heads_that_share_keys_and_values_are_named_with_their_number():
    assert [group.kind for group in groups_of(*attention(2))][-1] == "key-value groups of 2 heads"


def test_queries_keys_and_values_in_one_parameter_share_nothing():
    qkv, out = (
        rows("a.qkv", 24, tuple(i % 8 // 4 for i in range(24))),
        rows("a.out", 8, (0,) * 4 + (1,) * 4, axis=1),
    )
    scores = SymGroup("qk", 8, (rows("a.qkv", 16, tuple(i % 8 for i in range(16))),), "dynamic", "")
    value = Slices("a.qkv", (0,), tuple(range(16, 24)), tuple(range(8)))
    values = SymGroup("vo", 8, (value, rows("a.out", 8, tuple(range(8)), axis=1)), "dynamic", "")
    block = BlockGroup("heads", 2, (qkv, out), "searchable", "")
    report = TraceReport("Net", symbols=(scores, values), blocks=(block,), attentions=(AttentionSite("a", "sdpa"),))
    assert [group.kind for group in groups_of(report, {"a.qkv": (24, 8), "a.out": (8, 8)})][-1] == "heads"


def test_blocks_of_a_stack_are_experts_and_other_blocks_are_blocks():
    block = BlockGroup("e", 2, (Slices("m.w", (0,), (0, 1), (0, 1)),), "searchable", "")
    report = TraceReport("Net", blocks=(block,))
    assert [group.kind for group in groups_of(report, SHAPES)] == ["blocks"]
    stacked = TraceReport("Net", blocks=(block,), stacked=(StackedWeight("m", "w", 1),))
    assert [group.kind for group in groups_of(stacked, SHAPES)] == ["experts"]
