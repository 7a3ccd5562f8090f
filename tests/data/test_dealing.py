import numpy as np
import pytest
from scipy.sparse import csr_array

from dropkit.data.dealing import _Table, deal_across, fold_targets


@pytest.mark.parametrize("first", ["small", "large"])
def test_what_moves_to_a_side_without_a_class_is_what_costs_least(first):
    # Class 1 is in a small and in a large group, both on side 0; side 1 has as much as it wants of class 0.
    groups = [[0, 1], [50, 1]] if first == "small" else [[50, 1], [0, 1]]
    content = csr_array(np.array([*groups, [20, 0], [30, 0]]))
    table = _Table(content, np.array([[70, 30], [1, 1]]))
    for group, side in enumerate([0, 0, 0, 1]):
        table.place(group, side)
    assert table.fill_empty()
    assert table.side.tolist() == ([1, 0, 0, 1] if first == "small" else [0, 1, 0, 1])
    assert (table.lack == 0).all()


def test_a_class_in_one_group_cannot_be_on_two_sides():
    content = csr_array(np.array([[5, 0], [5, 0], [5, 3]]))
    assert deal_across(content, np.array([[8, 7], [2, 1]]), seed=0) is None


def test_folds_share_what_is_left_over():
    counts = np.array([7, 8, 9, 11])
    targets = fold_targets(counts, 5)
    assert (targets.sum(axis=1) == counts).all()
    assert (targets.max(axis=1) - targets.min(axis=1) <= 1).all()
    assert sorted(targets.sum(axis=0)) == [7, 7, 7, 7, 7]
