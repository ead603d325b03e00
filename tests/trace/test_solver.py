import numpy as np

from mtcore.trace.relations import RelationStore, split_terms
from mtcore.trace.solver import components, solve_scales


def solved(edges, sums=(), size=10, weak=None):
    store = RelationStore()
    a, b = (np.array([e[i] for e in edges], np.int64) for i in (0, 1))
    store.scale.add(a, b, 0)
    for terms in sums:
        store.sums.append((np.array(terms, np.int64)[:, None], 0))
    return solve_scales(store, size, np.ones(size, np.int64) if weak is None else weak).label.tolist()


def test_components_agree_with_a_plain_union_find():
    generator = np.random.default_rng(0)
    for _ in range(50):
        n, m = int(generator.integers(2, 60)), int(generator.integers(0, 80))
        a, b = generator.integers(0, n, m), generator.integers(0, n, m)
        parent = list(range(n))
        for x, y in zip(a, b, strict=True):
            old, new = max(parent[x], parent[y]), min(parent[x], parent[y])
            parent = [new if p == old else p for p in parent]
        assert components(n, a, b).tolist() == parent


def test_an_equality_joins_and_an_inverse_joins_with_the_opposite_sign():
    assert solved([(1, 2), (3, -1)])[1:4] == [1, 1, -1]


def test_what_equals_its_own_inverse_is_pinned_and_so_is_its_class():
    assert solved([(1, 2), (1, -2), (3, 2)])[1:4] == [0, 0, 0]
    assert solved([(4, 0), (5, -4)])[4:6] == [0, 0]


def test_a_sum_becomes_an_equality_once_a_term_is_pinned():
    label = solved([(1, 0)], sums=[(1, 2, 3)])
    assert label[1:4] == [0, 2, -2]


def test_the_weakest_term_of_an_unsolved_sum_gives_way():
    weak = np.ones(10, np.int64)
    weak[2] = 0
    assert solved([], sums=[(1, 2, 3)], weak=weak)[1:4] == [1, 0, -1]


def test_opposite_terms_cancel_before_a_sum_is_split():
    ((a, b, rest),) = split_terms(np.array([[1, 1], [-1, 2], [3, -1]]))
    assert {frozenset(map(abs, pair)) for pair in zip(a.tolist(), b.tolist(), strict=True)} == {
        frozenset({0, 2}),
        frozenset({0, 3}),
    }
    assert rest.size == 0
