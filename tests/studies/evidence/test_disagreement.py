"""Thinned networks of a planted network: counted picture by picture, from the draws themselves."""

import pytest
import torch
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.studies.evidence.disagreement import DRAWS, disagreement

CLASSES = 3


def network(p):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), dropkit.Dropout(p), nn.Linear(16, CLASSES)).eval()


@pytest.mark.parametrize("size", [4, 23])
def test_each_figure_is_counted_over_pictures_and_draws(planted, size):
    model = network(0.5)
    x, labels = torch.randn(23, 5), torch.arange(23) % CLASSES
    found, news = disagreement(*planted(model, x, labels, classes=CLASSES, size=size), seed=3)
    logits = dropkit.sample(model, x, n=DRAWS, seed=3)
    answers = logits.argmax(-1)
    minority, differing, pairs = 0, 0, 0
    for picture in range(len(x)):
        votes = answers[:, picture].tolist()
        minority += DRAWS - max(votes.count(answer) for answer in range(CLASSES))
        for one in range(DRAWS):
            for other in range(one):
                pairs += 1
                differing += votes[one] != votes[other]
    assert found["minority"] == pytest.approx(minority / (DRAWS * len(x)))
    assert found["pairwise"] == pytest.approx(differing / pairs)
    assert found["one"] == pytest.approx((answers != labels).double().mean().item())
    mean = logits.double().softmax(-1).mean(0).argmax(-1)
    assert found["average"] == pytest.approx((mean != labels).double().mean().item())
    assert 0 < found["minority"] < found["pairwise"]  # so that they are told apart
    assert found["one"] != found["average"]
    assert (found["draws"], news) == (DRAWS, [])


def test_thinned_networks_that_are_all_the_same_agree(planted):
    model = network(1e-12)
    x = torch.randn(7, 5)
    found, _ = disagreement(*planted(model, x, model(x).argmax(-1), classes=CLASSES))
    assert [found[name] for name in ("minority", "pairwise", "one", "average")] == [0, 0, 0, 0]


def test_without_dropout_there_is_nothing_to_draw(planted):
    with pytest.raises(DropkitError, match="dropout"):
        disagreement(*planted(nn.Sequential(nn.Linear(5, CLASSES)), torch.randn(7, 5), classes=CLASSES))
