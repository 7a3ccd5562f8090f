"""Dropout that stays off while other dropout is sampled is told, with its place; what does drop is not told."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.head import FrozenNetwork, Head
from dropkit.uncertainty.chunks import CACHE_BYTES, draws_at_a_time
from dropkit.uncertainty.sampling import SamplingWarning, sample


class Net(nn.Module):
    """Features of x [N, 5, 8] by `part`, then dropout, then a linear layer. It notes on how many it runs."""

    def __init__(self, part=None, rate=0.3):
        super().__init__()
        self.part, self.drop, self.fc = part, nn.Dropout(rate), nn.Linear(8, 3)

    def forward(self, x):
        RUNS.append(len(x))
        if self.part is not None:
            x = self.part(x)
            x = x[0] if isinstance(x, tuple) else x
        return self.fc(self.drop(x.sum(1)))


RUNS = []


class Guarded(nn.Module):
    def __init__(self, rate=0.4):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if self.training:
            x = F.dropout(x, self.rate)
        return F.dropout(x, 0.2, self.training)


LINE = Guarded.forward.__code__.co_firstlineno + 2  # of the call under the condition


class Plain(nn.Module):
    def forward(self, x):
        return F.dropout(F.dropout(x, 0.2, self.training), 0.3, training=self.training)


class GuardedLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.4)

    def forward(self, x):
        return self.drop(x) if self.training else x


class OwnFunctions(nn.Module):
    def forward(self, x):
        return dropkit.functional.dropout(x, 0.4, self.training)


class Noisy(nn.Dropout):
    def forward(self, input):
        return input * (torch.rand_like(input) > self.p) if self.training else input


class Doubled(nn.Dropout):
    """A subclass that changes nothing of how it drops."""


class Within(nn.Module):
    """Attention as libraries write it: its layer holds the rate, and is called where attention is not fused alone."""

    def __init__(self):
        super().__init__()
        self.attn_drop = nn.Dropout(0.4)

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=self.attn_drop.p if self.training else 0.0)


class Attends(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


def pictures(n=7):
    return torch.randn(n, 5, 8, generator=torch.Generator().manual_seed(0))


def said(net, n=3):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sample(net, pictures(), n=n)
    assert all(issubclass(one.category, SamplingWarning) for one in told)
    return [str(one.message) for one in told if "one after the other" not in str(one.message)]


def encoder(**rates):
    """A layer of torch's whose dropout is that of its attention alone, or of all else."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=rates["other"], batch_first=True)
    layer.self_attn.dropout = rates["attention"]
    return layer


LEFT_OFF = {
    "LSTM": (lambda: nn.LSTM(8, 8, 2, dropout=0.4, batch_first=True), r"between recurrent layers .* \(part\)"),
    "GRU": (lambda: nn.GRU(8, 8, 2, dropout=0.4, batch_first=True), r"between recurrent layers .* \(part\)"),
    "RNN": (lambda: nn.RNN(8, 8, 3, dropout=0.4, batch_first=True), r"between recurrent layers .* \(part\)"),
    "guarded": (Guarded, rf"functional dropout that runs in training mode only, .* \([^,]*test_left_off.py:{LINE}\)"),
    "a guarded layer": (GuardedLayer, r"layers that eval mode does not come to stay off .* \(part.drop\)"),
    "dropkit.functional": (OwnFunctions, r"calls of dropkit.functional cannot be keyed.* \(part\)"),
    "of another make": (lambda: Noisy(0.4), r"of classes whose masks cannot be keyed stays off .* \(part\)"),
    "attention": (lambda: encoder(attention=0.4, other=0.0), "dropout within attention cannot be keyed"),
    "fused attention": (Within, "dropout within attention cannot be keyed"),
}


@pytest.mark.parametrize("name", LEFT_OFF)
def test_dropout_that_stays_off_is_told_with_its_place(name):
    part, words = LEFT_OFF[name]
    (message,) = said(Net(part()))
    assert re.search(words, message), message


SAMPLED = {
    "nothing else": lambda: None,
    "one recurrent layer": lambda: nn.GRU(8, 8, 1, batch_first=True),
    "no rate between": lambda: nn.GRU(8, 8, 2, dropout=0.0, batch_first=True),
    "functional": Plain,
    "guarded at a rate of 0": lambda: Guarded(0.0),
    "subclass": lambda: Doubled(0.4),
    "a rate of 0": lambda: Noisy(0.0),
    "a network's own": lambda: encoder(attention=0.0, other=0.2),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_what_is_sampled_is_not_told(name):
    assert said(Net(SAMPLED[name]())) == []


def test_the_network_runs_once_more_on_one_picture():
    RUNS.clear()
    sample(Net(Plain()), pictures(), n=4, chunk=2)
    assert RUNS == [1, 7, 7]


def test_a_network_that_cannot_run_in_training_mode_is_sampled():
    class EvalOnly(Plain):
        def forward(self, x):
            if self.training:
                raise RuntimeError("for inference alone")
            return super().forward(x)

    net = Net(EvalOnly())
    assert said(net) == []


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (lambda: encoder(attention=0.4, other=0.0), r"drops within attention alone \(part.self_attn\)"),
        (lambda: Attends(8, 2, dropout=0.4, batch_first=True), r"drops within attention alone \(part\)"),
        (Within, r"drops within attention alone \(part\)"),
        (lambda: nn.LSTM(8, 8, 2, dropout=0.4, batch_first=True), r"between recurrent layers alone \(part\)"),
        (OwnFunctions, r"functions of dropkit.functional alone \(part\)"),
    ],
)
@pytest.mark.parametrize("count", [0, 7])
def test_where_it_is_all_the_dropout_there_is_the_cause_is_named(part, words, count):
    with pytest.raises(DropkitError, match=f"would be the same: .*{words}, which cannot be keyed.*dropkit.insert"):
        sample(Net(part(), rate=0.0), pictures(count), n=3)


class Backbone(nn.Module):
    """Features [N, 6] of [N, 5, 8], with a layer and functional dropout of its own."""

    def __init__(self):
        super().__init__()
        self.wide, self.drop, self.fc = nn.Linear(8, 1 << 10), nn.Dropout(0.5), nn.Linear(1 << 10, 6)

    def forward(self, x):
        RUNS.append(len(x))
        return self.fc(F.dropout(self.drop(self.wide(x.sum(1))), 0.5, self.training))


def with_head(rate):
    torch.manual_seed(0)
    net = FrozenNetwork(Backbone(), Head(6, 3))
    if rate:
        dropkit.insert(net.head, {"head": rate})
    return net


def test_of_a_frozen_network_with_a_head_the_head_alone_drops():
    net, x = with_head(0.5), pictures()
    draws = sample(net, x, n=20, seed=3)
    features = net.backbone.eval()(x).detach()
    torch.testing.assert_close(draws, sample_of_head(net, features), rtol=1e-5, atol=1e-6)
    assert said(net) == []
    assert net.backbone.drop.p == 0.5
    assert type(net.backbone.drop) is nn.Dropout
    RUNS.clear()
    sample(net, x, n=20)
    assert RUNS == [1, 1, 7]  # what its code calls; how large it gets; all 20 draws at once
    assert draws_at_a_time(net, x, 10**9) == CACHE_BYTES // (6 * 7 * 4)


def sample_of_head(net, features):
    """The head's draws, with the sites that it has within the whole network."""

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = net.head

        def forward(self, x):
            return self.head(x)

    return sample(Whole(), features, n=20, seed=3)


def test_a_head_without_dropout_is_told_so():
    with pytest.raises(DropkitError, match="only its head was trained, without dropout.*--dropout head=0.5"):
        sample(with_head(0), pictures(), n=3)
