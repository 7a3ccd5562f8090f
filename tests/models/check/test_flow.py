import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.evidence import Evidence
from dropkit.models.check.flow import RULES


def findings(model, example=None):
    evidence = Evidence(model, torch.ones(3, 13) if example is None else example)
    return [finding for rule in RULES for finding in rule(evidence)]


def codes(model, example=None):
    return [(finding.code, finding.severity, finding.where) for finding in findings(model, example)]


def mlp(*last, **named):
    return nn.Sequential(nn.Linear(13, 11), nn.ReLU(), *last)


class Written(nn.Module):
    """Two layers and dropout, with a forward that is given."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(13, 11), nn.Linear(11, 5), nn.Dropout(0.5)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


def hidden(net, x):
    return net.fc1(x).relu()


# DK021


def test_dropout_on_the_logits():
    (finding,) = findings(mlp(nn.Linear(11, 5), nn.Dropout(0.3)))
    assert (finding.code, finding.severity, finding.where) == ("DK021", "error", "3")
    assert "(2)" in finding.observed
    assert "30%" in finding.observed


def test_dropout_on_the_logits_is_seen_before_softmax_and_in_functions():
    assert codes(mlp(nn.Linear(11, 5), dropkit.Dropout(0.5), nn.LogSoftmax(1))) == [("DK021", "error", "3")]
    functional = Written(lambda net, x: F.dropout(net.fc2(net.drop(hidden(net, x))), 0.5, net.training))
    ((code, _, where),) = codes(functional)
    assert code == "DK021"
    assert "test_flow.py:" in where


LOGITS_NEAR_MISSES = {
    "before the last layer": mlp(nn.Dropout(0.5), nn.Linear(11, 5)),
    "p = 0": mlp(nn.Linear(11, 5), nn.Dropout(0.0)),
    "features of a backbone": mlp(nn.Dropout(0.5)),
    "off in training": Written(lambda net, x: F.dropout(net.fc2(net.drop(hidden(net, x))), 0.5, False)),
    "an embedding that a head reads": Written(
        lambda net, x: (net.fc2(e := net.drop(net.fc1(x))), e),
    ),
}


@pytest.mark.parametrize("model", LOGITS_NEAR_MISSES.values(), ids=LOGITS_NEAR_MISSES)
def test_not_on_the_logits(model):
    assert codes(model) == []


def test_maps_are_no_logits():
    assert codes(nn.Sequential(nn.Conv2d(1, 7, 3), nn.Dropout(0.5)), torch.ones(2, 1, 5, 5)) == []


# DK022


def ignores(net, x):
    x = hidden(net, x)
    net.drop(x)
    return net.fc2(x)


def ignores_function(net, x):
    F.dropout(x, 0.5, net.training)
    return net.fc2(net.drop(hidden(net, x)))


def ignores_in_place(net, x):
    x = hidden(net, x)
    F.dropout(net.drop(x), 0.5, net.training, inplace=True)
    return net.fc2(x)


def keeps(net, x):
    x = hidden(net, x)
    net.kept = net.drop(x)
    return net.fc2(x)


class Unseen(torch.autograd.Function):
    """An operation that torch's function modes do not see."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


def unseen(net, x):
    return net.fc2(Unseen.apply(net.drop(hidden(net, x))))


def test_unused_result():
    assert codes(Written(ignores)) == [("DK022", "error", "drop")]
    ((code, _, where),) = codes(Written(ignores_function))
    assert code == "DK022"
    assert "test_flow.py:" in where


def test_results_that_are_used():
    assert codes(Written(ignores, drop=nn.Dropout(0.5, inplace=True))) == []
    assert codes(Written(ignores, drop=nn.Dropout(0.0))) == []
    assert [code for code, *_ in codes(Written(lambda net, x: net.fc2(net.drop(hidden(net, x)))))] == []


def test_functional_in_place_is_used():
    # The dropout that is read by the one in place is followed directly by it, which is a note of its own.
    assert all(code != "DK022" for code, *_ in codes(Written(ignores_in_place)))


def test_what_torch_does_not_see_and_what_is_kept_counts_as_read():
    assert codes(Written(unseen)) == []
    model = Written(keeps)
    assert codes(model) == []
    assert not hasattr(model, "kept")


# DK023


def passes_by(net, x):
    return net.fc2(hidden(net, x))


def test_never_called():
    (finding,) = findings(Written(passes_by))
    assert (finding.code, finding.severity, finding.where) == ("DK023", "warning", "drop")
    assert "Dropout 0.5" in finding.observed
    in_a_list = Written(
        lambda net, x: net.fc2(net.drops[0](hidden(net, x))),
        drop=nn.Identity(),
        drops=nn.ModuleList([nn.Dropout(0.1), nn.Dropout(0.2)]),
    )
    assert codes(in_a_list) == [("DK023", "warning", "drops.1")]


class Block(nn.Module):
    """A layer that is called where there is a residual connection, as in torchvision's blocks."""

    def __init__(self, residual):
        super().__init__()
        self.fc, self.drop, self.residual = nn.Linear(13, 13), nn.Dropout(0.25), residual

    def forward(self, x):
        return x + self.drop(self.fc(x)) if self.residual else self.fc(x)


def test_blocks_that_never_call_their_layer_are_one_finding():
    (finding,) = findings(nn.Sequential(Block(False), nn.ReLU(), Block(False), Block(False)))
    assert (finding.code, finding.where) == ("DK023", "0.drop")
    assert "2 more" in finding.observed


class Attention(nn.Module):
    """As timm writes it: the layer holds the rate of a function."""

    def __init__(self):
        super().__init__()
        self.qkv, self.drop = nn.Linear(13, 33), nn.Dropout(0.25)

    def forward(self, x):
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=self.drop.p if self.training else 0.0)[:, 0]


CALLED_OR_MEANT = {
    "p = 0": Written(passes_by, drop=nn.Dropout(0.0)),
    "the rate of a function": Written(lambda net, x: net.fc2(F.dropout(hidden(net, x), net.drop.p, net.training))),
    "the rate of attention": Attention(),
    "in some blocks": nn.Sequential(Block(False), Block(True), nn.ReLU(), Block(False)),
    "a part that did not run": Written(passes_by, drop=nn.Sequential(nn.Linear(11, 3), nn.Dropout(0.5))),
    "in eval mode alone": Written(lambda net, x: net.fc2(hidden(net, x) if net.training else net.drop(hidden(net, x)))),
    "multi-head attention": Written(
        lambda net, x: net.fc2(net.drop(net.attention(h := hidden(net, x), h, h)[0])),
        attention=nn.MultiheadAttention(11, 1, dropout=0.1),
    ),
    "a transformer's layer": nn.Sequential(
        nn.Unflatten(1, (1, 13)), nn.TransformerEncoderLayer(13, 1, 17, batch_first=True)
    ),
}


@pytest.mark.parametrize("model", CALLED_OR_MEANT.values(), ids=CALLED_OR_MEANT)
def test_called_or_meant(model):
    assert codes(model) == []


def test_a_layer_at_two_paths_is_called():
    layer = nn.Dropout(0.5)
    assert codes(Written(lambda net, x: net.fc2(net.alias(hidden(net, x))), drop=layer, alias=layer)) == []


# DK024


def backbone_and_head():
    backbone = mlp(nn.Dropout(0.5), nn.Linear(11, 7), nn.ReLU())
    return nn.Sequential(backbone, nn.Dropout(0.5), nn.Linear(7, 5))


def test_frozen_backbone():
    model = backbone_and_head()
    model[0].requires_grad_(False)
    assert codes(model) == [("DK024", "warning", "0.2")]


def thawed(model):
    return model


def frozen_and_evaluated(model):
    model[0].requires_grad_(False).eval()
    return model


def all_frozen(model):
    return model.requires_grad_(False)


def frozen_without_rate(model):
    model[0].requires_grad_(False)[2].p = 0.0
    return model


def first_layer_learns(model):
    model[0][3].requires_grad_(False)
    model[2].requires_grad_(False)
    return model


def half_frozen(model):
    model[0][0].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "change", [thawed, frozen_and_evaluated, all_frozen, frozen_without_rate, first_layer_learns, half_frozen]
)
def test_not_within_a_frozen_part(change):
    assert codes(change(backbone_and_head())) == []


# DK025


def test_twice_in_a_row():
    model = mlp(nn.Dropout(0.5), nn.Flatten(), nn.Dropout(0.2), nn.Linear(11, 5))
    (finding,) = findings(model)
    assert (finding.code, finding.severity, finding.where) == ("DK025", "note", "4")
    assert "at the rate 0.6" in finding.observed


ONCE_EACH = {
    "an activation between": mlp(nn.Dropout(0.5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(11, 5)),
    "one at p = 0": mlp(nn.Dropout(0.5), nn.Dropout(0.0), nn.Linear(11, 5)),
    "units, then samples": mlp(nn.Dropout(0.5), dropkit.DropPath(0.2), nn.Linear(11, 5)),
    "two masks of one value": Written(
        lambda net, x: net.fc2(net.drop(h := hidden(net, x))) + net.fc2(net.other(h)), other=nn.Dropout(0.2)
    ),
}


@pytest.mark.parametrize("model", ONCE_EACH.values(), ids=ONCE_EACH)
def test_once_each(model):
    assert codes(model) == []


def test_the_model_is_untouched():
    model = Written(ignores)
    model.fc1.weight.grad = gradient = torch.ones(11, 13)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert findings(model)
    assert model.fc1.weight.grad is gradient
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())


def test_a_network_that_cannot_train_gives_nothing():
    def refuses(net, x):
        if net.training:
            raise ValueError("not in training")
        return net.fc2(net.drop(hidden(net, x)))

    assert codes(Written(refuses)) == []
