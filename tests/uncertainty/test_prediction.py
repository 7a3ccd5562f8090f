"""Predictions against sums over draws done by hand, an enumerated network, and properties that hold for any draws."""

import math
import warnings
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.uncertainty import prediction
from dropkit.uncertainty.prediction import predict, statistics


class Watched(nn.Module):
    """A small network that writes down the sizes of the batches that it sees."""

    def __init__(self, classes=5, drop=nn.Dropout, rate=0.5):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(3, 11),
            nn.BatchNorm1d(11),
            drop(rate),
            nn.Linear(11, classes),
        )
        self.sizes = []

    def forward(self, x):
        SIZES.append(len(x))
        return self.last(self.drop(self.norm(self.first(x)).relu()))


SIZES = []


@pytest.fixture
def network():
    torch.manual_seed(0)
    SIZES.clear()
    net = Watched()
    net(torch.randn(13, 3))  # moves the running statistics away from where they start
    SIZES.clear()
    return net


@pytest.fixture
def x():
    return torch.randn(29, 3, generator=torch.Generator().manual_seed(1))


TENSORS = ["probabilities", "entropy", "expected_entropy", "mutual_information", "variation_ratio", "std", "interval"]


def close(a, b, **tolerance):
    for name in TENSORS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), **{"rtol": 1e-4, "atol": 1e-5, **tolerance})
    assert torch.equal(a.label, b.label)


def test_it_is_the_statistics_of_sample_picture_by_picture(network, x):
    found = predict(network, x, n=17, seed=3, level=0.8)
    draws = dropkit.sample(network, x, n=17, seed=3).double().softmax(-1).numpy()
    for picture in range(29):
        p = draws[:, picture]
        mean, label = p.mean(0), p.mean(0).argmax()
        assert found.label[picture] == label
        assert found.probabilities[picture].numpy() == pytest.approx(mean)
        assert found.entropy[picture] == pytest.approx(scipy_entropy(mean))
        assert found.expected_entropy[picture] == pytest.approx(np.mean([scipy_entropy(row) for row in p]))
        assert found.mutual_information[picture] == pytest.approx(
            np.mean([scipy_entropy(row, mean) for row in p])  # the mean divergence of the draws from their average
        )
        votes = np.bincount(p.argmax(1), minlength=5)
        assert found.variation_ratio[picture] == pytest.approx(1 - votes.max() / 17)
        assert found.std[picture] == pytest.approx(p[:, label].std(ddof=1))
        assert found.interval[picture].numpy() == pytest.approx(np.quantile(p[:, label], [0.1, 0.9]))
    assert found.variation_ratio.max() > 0
    assert (found.n, found.level, len(found)) == (17, 0.8, 29)
    assert all(getattr(found, name).dtype == torch.float64 for name in TENSORS)


def test_two_units_enumerated_by_hand():
    """Logits (2 (m1 - m2), 0), each m kept with .5: +2, -2 and twice 0."""
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2, bias=False))
    net[1].weight.data = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    n = 4000
    found = predict(net, torch.ones(3, 2), n=n, seed=1)
    low, high = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))
    variance = ((low - 0.5) ** 2 + (high - 0.5) ** 2) / 4
    within = 4.5 * math.sqrt(variance / n)
    binary = lambda q: -q * math.log(q) - (1 - q) * math.log(1 - q)
    inside = binary(low) / 2 + math.log(2) / 2
    for picture in range(3):
        assert found.probabilities[picture, 0] == pytest.approx(0.5, abs=within)
        assert found.entropy[picture] == pytest.approx(math.log(2), abs=3 * within**2)
        assert found.expected_entropy[picture] == pytest.approx(
            inside, abs=4.5 * (math.log(2) - binary(low)) / 2 / n**0.5
        )
        assert found.std[picture] == pytest.approx(math.sqrt(variance), rel=0.05)
        assert found.interval[picture].tolist() == pytest.approx([low, high])
        # +2 and 0 vote for the first class, -2 for the second
        assert found.variation_ratio[picture] == pytest.approx(0.25, abs=4.5 * math.sqrt(3 / 16 / n))


def test_each_vote_counts_the_same_however_sure():
    """Two weak votes against a strong one: the mean's class is not the one with most votes."""
    found = statistics(torch.tensor([[[9.0, 0.0]], [[0.0, 0.5]], [[0.0, 0.5]]]))
    assert found.label.tolist() == [0]
    assert found.variation_ratio.tolist() == pytest.approx([1 / 3])


@given(st.integers(1, 7), st.integers(2, 9), st.integers(0, 2**31), st.sampled_from([0, 1e-3, 1, 30, 1e4]))
def test_bounds_that_hold_for_any_draws(n, classes, seed, scale):
    logits = scale * torch.randn(n, 3, classes, generator=torch.Generator().manual_seed(seed))
    found = statistics(logits)
    near = 1e-12
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(3, dtype=torch.float64))
    assert (found.mutual_information >= 0).all()
    assert (found.mutual_information <= found.entropy + near).all()
    assert (found.mutual_information <= math.log(n) + near).all()  # no more than the number of the draw tells
    assert (found.expected_entropy >= 0).all()
    assert (found.entropy <= math.log(classes) + near).all()
    assert (found.entropy - found.expected_entropy - found.mutual_information).abs().max() < near
    assert (found.variation_ratio >= 0).all()
    assert (found.variation_ratio <= 1 - 1 / min(n, classes) + near).all()
    assert (found.interval[:, 0] <= found.interval[:, 1]).all()
    assert found.std.isfinite().all()


def test_draws_that_agree_have_no_mutual_information_left_from_rounding():
    logits = torch.randn(1, 211, 7, generator=torch.Generator().manual_seed(0))
    found = statistics(logits.expand(13, -1, -1))
    raw = found.entropy - found.expected_entropy
    assert (raw < 0).any()  # else nothing was to be rounded
    assert (found.mutual_information >= 0).all()
    assert found.mutual_information.max() < 1e-14


def test_no_draws_are_the_plain_pass(network, x):
    with torch.no_grad():
        expected = network.eval()(x).double().softmax(-1)
    network.train()
    found = predict(network, x, n=0, batch_size=7)
    torch.testing.assert_close(found.probabilities, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.entropy, found.expected_entropy)
    for name in ("mutual_information", "variation_ratio", "std"):
        assert torch.equal(getattr(found, name), torch.zeros(29, dtype=torch.float64)), name
    top = found.probabilities.amax(1)
    assert torch.equal(found.interval, torch.stack([top, top], 1))
    assert found.n == 0
    assert network.training
    assert predict(nn.Linear(3, 2), x, n=0).n == 0  # which needs no dropout


def test_a_single_draw_has_no_spread(network, x):
    found = predict(network, x, n=1, seed=5)
    expected = dropkit.sample(network, x, n=1, seed=5)[0].double().softmax(-1)
    torch.testing.assert_close(found.probabilities, expected)
    assert not found.std.any()
    assert not found.mutual_information.any()


@pytest.mark.parametrize("batch_size", [1, 7, 28, 29, 1000])
def test_batches_change_nothing(network, x, batch_size):
    close(predict(network, x, n=11, seed=2, batch_size=batch_size), predict(network, x, n=11, seed=2))
    part = predict(network, x[13:], n=11, seed=2, first_sample=13, batch_size=batch_size)
    close(part, predict(network, x, n=11, seed=2)[13:])


def test_chunks_change_nothing(network, x, monkeypatch):
    whole = predict(network, x, n=11, seed=2)
    monkeypatch.setattr("dropkit.uncertainty.sampling.draws_at_a_time", lambda *_: 2)
    close(predict(network, x, n=11, seed=2), whole)


def test_seeds_and_pictures_have_masks_of_their_own(network, x):
    same = x[:1].expand(7, -1)
    found = predict(network, same, n=11, seed=2)
    assert len(found.std.unique()) == 7
    other = predict(network, same, n=11, seed=3)
    assert not (found.std == other.std).any()


def test_no_batch_is_larger_than_asked_for(network, x):
    predict(network, x, n=3, batch_size=7)
    assert max(SIZES) == 7
    SIZES.clear()
    predict(network, x, n=0, batch_size=7)
    assert SIZES == [7, 7, 7, 7, 1]
    SIZES.clear()
    predict(network, torch.randn(300, 3), n=3)
    assert max(SIZES) == 128


def test_many_draws_of_many_classes_make_batches_smaller(network, x, monkeypatch):
    monkeypatch.setattr(prediction, "_BYTES", 8 * 50 * 5 * 4)
    predict(network, x, n=50)
    assert max(SIZES) == 4
    SIZES.clear()
    monkeypatch.setattr(prediction, "_BYTES", 1)
    predict(network, x[:7], n=5)
    assert max(SIZES) == 1  # and never 0


def test_the_temperature_divides_each_draw(network, x):
    found = predict(network, x, n=11, seed=2, temperature=3.0)
    expected = (dropkit.sample(network, x, n=11, seed=2).double() / 3).softmax(-1).mean(0)
    torch.testing.assert_close(found.probabilities, expected)
    assert (found.entropy > predict(network, x, n=11, seed=2).entropy).all()


def state(network):
    return {path: (type(m), dict(m.__dict__), m.training) for path, m in network.named_modules()}


@pytest.mark.parametrize("n", [0, 5])
@pytest.mark.parametrize("mode", [True, False, None])
def test_the_network_and_the_generator_are_left_as_they_were(network, x, n, mode):
    if mode is not None:
        network.train(mode)
    else:
        network.norm.eval()
    before, tensors = state(network), {k: v.clone() for k, v in network.state_dict().items()}
    generator = torch.get_rng_state()
    predict(network, x, n=n, batch_size=13)
    assert state(network) == before
    assert torch.equal(generator, torch.get_rng_state())
    for name, value in network.state_dict().items():
        assert torch.equal(value, tensors[name]), name


class Failing(Watched):
    def forward(self, x):
        if 1 < len(x) < 7:
            raise RuntimeError("out of luck")
        return super().forward(x)


@pytest.mark.parametrize("n", [0, 5])
def test_an_exception_leaves_the_network_as_it_was(x, n):
    net = Failing()
    before = state(net)
    with pytest.raises(DropkitError, match="Failing cannot run .*out of luck"):
        predict(net, x, n=n, batch_size=13)  # 29 = 13 + 13 + 3
    assert state(net) == before


class Warned(Watched):
    def forward(self, x):
        x = nn.functional.dropout(x, 0.2) if self.training else x
        y = super().forward(x)
        return y * (1 if y.sum().item() > 0 else 2)


def test_what_stays_off_is_told_once_a_call_at_the_callers_line(x):
    SIZES.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        predict(Warned(), x, n=3, batch_size=7)
    assert sorted(str(one.message)[:19] for one in told) == ["functional dropout ", "the thinned network"]
    assert {one.filename for one in told} == {__file__}
    # What training mode calls, and how large it gets; the draws of the last of 5 batches, which has one picture.
    assert SIZES.count(1) == 2 + 3


def test_no_graph_is_kept_and_inference_mode_does(network, x):
    with torch.enable_grad():
        assert not predict(network, x.requires_grad_(), n=3).probabilities.requires_grad
    expected = predict(network, x, n=3)
    with torch.inference_mode():
        close(predict(network, x, n=3), expected)


def test_half_precision_is_averaged_in_double(x):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 11), nn.ReLU(), nn.Dropout(0.5), nn.Linear(11, 5)).bfloat16()
    found = predict(net, x.bfloat16(), n=7)
    expected = dropkit.sample(net, x.bfloat16(), n=7).double().softmax(-1).mean(0)
    torch.testing.assert_close(found.probabilities, expected)
    assert found.probabilities.dtype == torch.float64


def test_pictures_can_be_chosen(network, x):
    found = predict(network, x, n=5)
    assert [len(found[which]) for which in (3, -1, slice(2, 7), found.entropy > 0.5, [0, 2])][:3] == [1, 1, 5]
    order = found.entropy.argsort(descending=True)
    ranked = found[order]
    assert torch.equal(ranked.entropy, found.entropy[order])
    assert torch.equal(ranked.interval, found.interval[order])
    assert (ranked.n, ranked.level) == (5, 0.95)
    assert [int(one.label) for one in found] == found.label.tolist()
    with pytest.raises(IndexError):
        found[29]


def test_it_prints_its_sizes_and_a_short_table(network, x):
    found = predict(network, x, n=5)
    assert repr(found) == "Prediction(pictures=29, classes=5, n=5)"
    lines = str(found).splitlines()
    assert len(lines) == 2 + 8 + 1
    assert "95 %" in lines[1]
    top, (low, high) = found.probabilities[0].max(), found.interval[0]
    assert lines[2].split()[:4] == [str(int(found.label[0])), f"{top:.3f}", f"[{low:.3f},", f"{high:.3f}]"]
    assert lines[2].split()[4:] == [f"{found.entropy[0]:.3f}", f"{found.mutual_information[0]:.3f}"]
    assert len(str(found[:3]).splitlines()) == 5


def test_what_cannot_be_predicted_is_refused(network, x):
    for wrong, words in (([1.0], "a list"), (torch.ones(3), r"tensor \[3\]")):
        with pytest.raises(DropkitError, match=words):
            predict(network, wrong)
    for n in (-1, 2.5, True, "7"):
        with pytest.raises(DropkitError, match="as n a whole number of 0 or more"):
            predict(network, x, n=n)
    for size in (0, -3, 1.5):
        with pytest.raises(DropkitError, match="batch_size a whole number of 1"):
            predict(network, x, batch_size=size)
    for level in (0, 1, 95, math.nan, "a", None, [0.5, 0.9], np.array([0.5, 0.9])):
        with pytest.raises(DropkitError, match="level between 0 and 1"):
            predict(network, x, level=level)
    for temperature in (0, -1, math.inf, math.nan, "x", None, torch.ones(2)):
        with pytest.raises(DropkitError, match="positive temperature"):
            predict(network, x, temperature=temperature)
    with pytest.raises(DropkitError, match="no dropout"):
        predict(nn.Linear(3, 2), x)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_of_no_pictures_there_are_no_predictions(network, x, n):
    found = predict(network, x[:0], n=n)
    assert {name: list(getattr(found, name).shape) for name in [*TENSORS, "label"]} == {
        "probabilities": [0, 5],
        "interval": [0, 2],
        **{name: [0] for name in (*TENSORS[1:6], "label")},
    }
    assert all(getattr(found, name).dtype == torch.float64 for name in TENSORS)
    assert (len(found), found.n) == (0, n)
    assert repr(found) == f"Prediction(pictures=0, classes=5, n={n})"


@pytest.mark.parametrize("n", [0, 3])
def test_a_network_that_cannot_run_on_the_pictures_is_a_message(network, x, n):
    with pytest.raises(DropkitError, match=r"cannot run on the example input, .* of torch.float64: RuntimeError"):
        predict(network, x.double(), n=n)


@pytest.mark.parametrize("n", [0, 3])
def test_networks_that_return_something_else_are_refused(x, n):
    class Pair(nn.Sequential):
        def forward(self, x):
            return super().forward(x), x

    layers = nn.Dropout(0.5), nn.Linear(3, 1)
    with pytest.raises(DropkitError, match="returned a tuple"):
        predict(Pair(*layers), x, n=n)
    with pytest.raises(DropkitError, match=r"K >= 2 classes, but it returned \[\d+, 1\]"):
        predict(nn.Sequential(*layers), x, n=n)


def test_the_average_is_the_binomial_mixture():
    """Logit 2 * (kept of 3) - 3 with rate .5: the mean probability is a sum over 0 to 3 kept units."""
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
    net[1].weight.data, net[1].bias.data = torch.tensor([[1.0] * 3, [0.0] * 3]), torch.tensor([-3.0, 0.0])
    terms = [(comb(3, k) / 8, 1 / (1 + math.exp(3 - 2 * k))) for k in range(4)]
    expected = sum(share * p for share, p in terms)
    variance = sum(share * (p - expected) ** 2 for share, p in terms)
    n, pictures = 200, 101
    found = predict(net, torch.ones(pictures, 3), n=n)
    assert found.probabilities[:, 0].mean() == pytest.approx(expected, abs=4.5 * math.sqrt(variance / n / pictures))


@pytest.mark.parametrize("n", [0, 3])
def test_a_batch_that_the_network_writes_into_stays_as_it_is(n):
    torch.manual_seed(0)
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(11, 5), nn.Dropout(0.5))
    x = torch.randn(7, 11)
    before = x.clone()
    predict(net, x, n=n)
    assert torch.equal(x, before)
