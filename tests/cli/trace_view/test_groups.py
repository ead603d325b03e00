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
        ("\u00f7", "a.o", "[1: 4 of 8]"),
    ]
    assert group.members[1].indices == "0:4"


def test_a_part_of_a_stack_is_counted_over_all_its_axes():
    part = Slices("m.w", (0, 1), (0, 1, 2, 6, 7, 8), (0, 1, 2, 3, 4, 5))
    (group,) = groups_of(TraceReport("Net", folds=(FoldGroup("f", 6, (part,), ()),)), SHAPES)
    assert group.members[0].place == "[0,1: 6 of 12]"
    assert group.members[0].indices == "0:3,6:9"


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


def test_blocks_of_a_stack_are_experts_and_other_blocks_are_blocks():
    block = BlockGroup("e", 2, (Slices("m.w", (0,), (0, 1), (0, 1)),), "searchable", "")
    report = TraceReport("Net", blocks=(block,))
    assert [group.kind for group in groups_of(report, SHAPES)] == ["blocks"]
    stacked = TraceReport("Net", blocks=(block,), stacked=(StackedWeight("m", "w", 1),))
    assert [group.kind for group in groups_of(stacked, SHAPES)] == ["experts"]
