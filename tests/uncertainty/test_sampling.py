"""Thinned networks: only dropout is random, all draws share what it does not change, and nothing stays behind."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.layers.blocks import DropBlock2d
from dropkit.layers.learned import ConcreteDropout
from dropkit.layers.paths import DropPath, Residual
from dropkit.layers.relu import ReLUDropout
from dropkit.layers.weights import DropConnect
from dropkit.masks import key_words, site_of
from dropkit.models.cnn import CNNWithDropout
from dropkit.uncertainty.sampling import Sampler, SamplingWarning, sample


class Net(nn.Module):
    """A convolution, then what `act` does to the maps, then a linear layer."""

    def __init__(self, act, **modules):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3 * 5 * 7, 4)
        self.act = act
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.fc(self.act(self, self.conv(x).relu()).flatten(1))


def pictures(n=6, seed=0):
    return torch.randn(n, 1, 5, 7, generator=torch.Generator().manual_seed(seed))


def made(act, **modules):
    torch.manual_seed(1)
    return Net(act, **modules)


NETWORKS = {
    "torch.nn": lambda: made(lambda net, x: net.drop(x), drop=nn.Dropout(0.4)),
    "dropkit": lambda: made(lambda net, x: net.drop(x), drop=dropkit.Dropout(0.4)),
    "in place": lambda: made(lambda net, x: net.drop(x), drop=nn.Dropout(0.4, inplace=True)),
    "channels": lambda: made(lambda net, x: net.drop(x), drop=nn.Dropout2d(0.4)),
    "functional": lambda: made(lambda net, x: F.dropout(x, 0.4, net.training)),
    "functional, in place": lambda: made(lambda net, x: F.dropout(x * 1, 0.4, net.training, inplace=True)),
    "torch.dropout": lambda: made(lambda net, x: torch.dropout(x, 0.4, net.training)),
    "functional alpha": lambda: made(lambda net, x: F.alpha_dropout(x, 0.4, net.training)),
    "functional channels": lambda: made(lambda net, x: F.dropout2d(x, 0.4, net.training)),
    "blocks": lambda: made(lambda net, x: net.drop(x), drop=DropBlock2d(0.4, 2)),
    "learned": lambda: made(lambda net, x: net.drop(x), drop=ConcreteDropout(0.4)),
    "weights": lambda: made(lambda net, x: net.drop(x), drop=DropConnect(nn.Conv2d(3, 3, 3, padding=1), 0.4)),
    "path": lambda: made(lambda net, x: x + net.drop(x), drop=DropPath(0.4)),
    "residual": lambda: made(lambda net, x: net.drop(x), drop=Residual(nn.Conv2d(3, 3, 3, padding=1), 0.4)),
    "relu": lambda: made(lambda net, x: net.drop(x), drop=ReLUDropout(0.4)),
    "batch-norm": lambda: made(
        lambda net, x: net.norm(net.drop(x)), drop=nn.Dropout(0.4), norm=nn.BatchNorm2d(3, momentum=0.5)
    ),
    "skip": lambda: made(lambda net, x: x + net.drop(x), drop=nn.Dropout(0.4)),
    "two calls": lambda: made(lambda net, x: net.drop(net.drop(x)), drop=nn.Dropout(0.3)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_sample_is_the_same_whatever_n_chunk_and_batch(name, training):
    net, x = NETWORKS[name]().train(training), pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all of these are computed for many draws at once
        whole = sample(net, x, n=7, seed=3, chunk=7)
    assert whole.shape == (7, 6, 4)
    assert not whole.requires_grad
    for part in (
        sample(net, x, n=5, seed=3, chunk=2),
        sample(net, x, n=5, seed=3, chunk=1),
        torch.cat([sample(net, x[:4], n=5, seed=3), sample(net, x[4:], n=5, seed=3, first_sample=4)], 1),
    ):
        assert torch.allclose(part, whole[:5], atol=1e-5)
    assert not torch.allclose(sample(net, x, n=7, seed=4), whole)
    assert len({tuple(draw.flatten().tolist()) for draw in whole}) == 7


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_left_as_it_was(name):
    net, x = NETWORKS[name](), pictures()
    list(net.modules())[-1].eval()  # a mode of its own
    before = {path: (type(m), dict(vars(m)), m.training) for path, m in net.named_modules()}
    tables = {path: [dict(v) for v in vars(m).values() if isinstance(v, dict)] for path, m in net.named_modules()}
    weights, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    sample(net, x, n=3)
    with pytest.raises(DropkitError):
        sample(net, pictures()[:, :, :4], n=3, chunk=3)
    for path, module in net.named_modules():
        assert before[path] == (type(module), vars(module), module.training)
        assert tables[path] == [value for value in vars(module).values() if isinstance(value, dict)]
    assert list(net.state_dict()) == list(weights)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["torch.nn", "channels", "functional", "batch-norm", "skip", "two calls", "in place"])
def test_means_are_those_of_a_loop(name):
    """Within 5 standard errors of each logit: about 24 of them, so that a false alarm has odds of 1 in 70,000."""
    net, x, n = NETWORKS[name](), pictures(), 1500
    ours = sample(net, x, n, seed=5, chunk=250).double()
    net.train()
    for module in net.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = torch.stack([net(x) for _ in range(n)]).double()
    error = ((ours.var(0) + theirs.var(0)) / n).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error + 1e-9).all()
    # The spread, too: its relative error is about sqrt(kurtosis / n).
    assert (ours.std(0) / theirs.std(0) - 1).abs().max() < 0.25


def test_what_comes_before_dropout_runs_once_a_chunk():
    net, x, calls = CNNWithDropout(0.5), torch.randn(3, 1, 28, 28), []
    net.conv1.register_forward_hook(lambda *given: calls.append(given[2].shape))
    sample(net, x, n=20, chunk=5)
    assert [shape[0] for shape in calls] == [1, 3, 3, 3, 3]  # once to see what training mode calls
    assert all(len(shape) == 4 for shape in calls)
    calls.clear()
    sample(net, x, n=20)
    assert [shape[0] for shape in calls] == [1, 1, 3]  # and once to see how large the activations are


def test_calls_of_one_layer_have_masks_of_their_own():
    """As torch.nn's have: with one mask, all that the first call keeps the second would keep."""
    net = nn.Sequential(drop := nn.Dropout(0.5), drop)
    kept = sample(net, torch.ones(1, 4000), n=2)
    share = (kept != 0).double().mean()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 8000) ** 0.5


def slow(act, reason, **modules):
    net, x = made(act, **modules), pictures()
    with pytest.warns(UserWarning, match=f"one after the other, which takes longer: .*{reason}"):
        found = sample(net, x, n=5, seed=3, chunk=5)
    assert torch.equal(found[:2], sample(net, x, n=2, seed=3, chunk=1))
    assert len({tuple(draw.flatten().tolist()) for draw in found}) == 5
    return found


def into_a_sum(net, x):
    x += net.drop(x)
    return x


def into_a_buffer(net, x):
    out = torch.zeros_like(x)
    out[:, :1] = net.drop(x)[:, :1]
    return out


def by_value(net, x):
    y = net.drop(x)
    return y * (1 if y.sum().item() > 0 else 2)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (into_a_sum, "broadcast shape"),
        (into_a_buffer, "vmap"),
        (by_value, "item"),
        (lambda n, x: n.drop(x)[:, x[0, :, 0, 0] > -9], ""),
    ],
)
def test_what_cannot_be_computed_at_once_is_computed_draw_by_draw(act, reason):
    if reason:
        slow(act, reason, drop=nn.Dropout(0.4))
    else:  # a mask that dropout does not enter is fine
        sample(made(act, drop=nn.Dropout(0.4)), pictures(), n=3)


def test_a_long_reason_ends_with_a_word():
    def failing(net, x):
        y = net.drop(x)
        if type(y) is not torch.Tensor or torch._C._functorch.is_batchedtensor(y):
            raise RuntimeError("first\nline, " + "then words " * 99)
        return y

    with pytest.warns(SamplingWarning, match=r"longer: first line, then words .* (then|words) \.\.\.$") as told:
        sample(made(failing, drop=nn.Dropout(0.4)), pictures(), n=3, chunk=3)
    assert len(str(told[0].message)) < 300


def test_other_random_numbers_are_told_and_repeat():
    found = slow(lambda net, x: net.drop(x) + torch.randn_like(x), "draws random numbers", drop=nn.Dropout(0.4))
    assert found.isfinite().all()


def test_attention_s_own_dropout_stays_off_and_is_told():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend, self.drop = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True), nn.Dropout(0.3)

        def forward(self, x):
            return self.drop(self.attend(x, x, x, need_weights=False)[0]).sum(1)

    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="within attention"):
        assert sample(Attention(), torch.randn(2, 3, 8), n=3).shape == (3, 2, 8)


class Guarded(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        if self.training:
            x = F.dropout(x, 0.4)
        return self.fc(x)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(3, 2), nn.Dropout(0.4)

    def forward(self, x):
        return self.fc(x)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Linear(3, 2), "it has no dropout"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0)), r"rates of its dropout are all 0 \(1\)"),
        (Guarded(), r"runs in training mode only \(.*test_sampling.py:\d+\)"),
        (Unused(), r"no forward pass calls its dropout \(drop\)"),
    ],
)
def test_nothing_dropped_is_an_error_with_its_cause(net, message):
    with pytest.raises(DropkitError, match=f"would be the same: .*{message}"):
        sample(net, torch.ones(2, 3), n=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n a whole number of 1 or more, but got 0"),
        ({"n": True}, "n a whole number"),
        ({"chunk": 2.5}, "chunk a whole number"),
        ({"seed": -1}, r"seed a whole number of 0 or more, below 2\*\*64, but got -1"),
        ({"first_sample": 1 << 63}, r"below 2\*\*63"),
    ],
)
def test_arguments_are_checked(given, message):
    with pytest.raises(DropkitError, match=message):
        sample(NETWORKS["dropkit"](), pictures(), **given)


@pytest.mark.parametrize(
    ("given", "shown"), [(None, "a NoneType"), ([[1.0]], "a list"), (pictures().numpy(), "a ndarray")]
)
def test_what_is_no_tensor_is_refused(given, shown):
    with pytest.raises(DropkitError, match=rf"sample takes a batch as a tensor \[N, \.\.\.\], but got {shown}: "):
        sample(NETWORKS["dropkit"](), given)


def test_warnings_name_the_callers_line():
    net = made(by_value, drop=nn.Dropout(0.4))
    with pytest.warns(SamplingWarning, match="one after the other") as told:
        sample(net, pictures(), n=3)
    assert [one.filename for one in told] == [__file__]


def test_a_sampler_looks_once_and_says_things_once():
    net = made(lambda net, x: by_value(net, F.dropout(x, 0.4) if net.training else x), drop=nn.Dropout(0.4))
    seen = []
    net.register_forward_hook(lambda net, args, y: seen.append((net.training, len(y))))
    sampler, x = Sampler(net, 2, seed=3), pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it leaves that to those who call it
        parts = [sampler(x[:4]), sampler(x[4:], 4)]
    assert [words.split(":")[0][:30] for words in sampler.news()] == [
        "the thinned networks are compu",
        "functional dropout that runs i",
    ]
    assert sampler.news() == []
    assert seen.count((True, 1)) == 1
    with pytest.warns(SamplingWarning):
        torch.testing.assert_close(torch.cat(parts, 1), sample(net, x, n=2, seed=3))


def test_types_under_autocast_do_not_depend_on_the_chunk():
    net = made(lambda net, x: net.more(net.drop(x)), drop=nn.Dropout(0.4), more=nn.Conv2d(3, 3, 3, padding=1))
    with torch.autocast("cpu", dtype=torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("error")
        whole, alone = (sample(net, pictures(), n=5, chunk=chunk) for chunk in (5, 1))
        assert whole.dtype == alone.dtype == net.eval()(pictures()).dtype == torch.bfloat16
    torch.testing.assert_close(whole, alone, rtol=0.05, atol=0.05)
    assert sample(net, pictures(), n=2).dtype == torch.float32


def test_torchs_advice_to_its_own_authors_is_not_passed_on():
    """Of an operator that torch.vmap computes draw by draw."""
    act = lambda net, x: torch.special.airy_ai(net.drop(x))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.vmap(torch.special.airy_ai)(torch.ones(2, 3))
    assert "performance drop" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(made(act, drop=nn.Dropout(0.4)), pictures(), n=3, chunk=3)


class Packed(nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.drop, self.pack = nn.Dropout(0.5), pack

    def forward(self, x):
        return self.pack(self.drop(x))


@pytest.mark.parametrize(
    ("pack", "shown"),
    [(lambda y: (y, y), "a tuple"), (lambda y: {"a": y}, "a dict"), (lambda y: y.sum(), r"a tensor \[\]")],
)
def test_logits_are_one_tensor(pack, shown):
    with pytest.raises(DropkitError, match=rf"logits \[2, classes\], but it returned {shown}: wrap it"):
        sample(Packed(pack), torch.ones(2, 3), n=3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types(dtype):
    net = NETWORKS["torch.nn"]().to(dtype)
    assert sample(net, pictures().to(dtype), n=2).dtype == dtype


def test_wrapped_networks_are_sampled_as_they_are_within():
    net, x = NETWORKS["torch.nn"](), pictures()
    plain = sample(net, x, n=3)
    assert torch.equal(sample(torch.compile(net, backend="eager"), x, n=3), plain)
    assert torch.equal(sample(nn.DataParallel(net), x, n=3), plain)
    with torch.inference_mode():
        assert torch.equal(sample(net, x, n=3), plain)


def test_dropout_that_was_inserted_counts():
    net, x = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(45, 4)), pictures()
    with pytest.raises(DropkitError, match="no dropout"):
        sample(net, x, n=3)
    dropkit.insert(net, "conv=channel:0.5", x)
    assert sample(net, x, n=3).std(0).max() > 0


def test_a_whole_network_is_a_loop_over_draws_with_the_same_keys(libraries):
    """All 17 blocks of MobileNetV3 at once, its one dropout layer given each draw's key by hand."""
    _, torchvision = libraries
    torch.manual_seed(0)
    net, x, seed = torchvision.models.mobilenet_v3_small(num_classes=5), torch.randn(3, 3, 67, 71), 7
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1.0
    net(x)  # with the statistics that it is built with, its logits would vanish
    (path,) = [path for path, module in net.named_modules() if isinstance(module, nn.Dropout)]
    draws = sample(net, x, n=4, seed=seed, chunk=4, first_sample=11)
    loop = copy.deepcopy(net).eval()
    layer = dropkit.Dropout(net.get_submodule(path).p)
    loop.set_submodule(path, layer)
    for draw, logits in enumerate(draws):
        layer.key = key_words(seed, site_of(path), draw, 11)
        with torch.no_grad():
            torch.testing.assert_close(loop(x), logits, rtol=1e-4, atol=1e-5)
    assert (draws.std(0) > 1e-4).any()


def test_networks_of_the_libraries(libraries):
    timm, torchvision = libraries
    torch.manual_seed(0)
    block = timm.create_model("test_resnet", num_classes=5, drop_rate=0.3, drop_path_rate=0.4)
    depth = torchvision.models.convnext.CNBlock(3, 1.0, 0.5)
    for net, x in ((block, torch.randn(2, 3, 32, 32)), (nn.Sequential(depth, nn.Flatten()), torch.randn(2, 3, 5, 5))):
        draws = sample(net, x, n=4, chunk=4)
        assert len({tuple(draw.flatten().tolist()) for draw in draws}) > 1
        assert torch.allclose(sample(net, x, n=4, chunk=1), draws, atol=1e-4)


def test_what_a_forward_writes_into_a_buffer_is_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            self.calls += 1
            return self.drop(x)

    net = Counting()
    sample(net, torch.ones(2, 3), n=3)
    assert net.calls == 0


def test_a_rate_of_one_leaves_nothing_to_chance():
    with pytest.raises(DropkitError, match="would be the same"):
        sample(nn.Sequential(nn.Linear(3, 2), nn.Dropout(1.0)), torch.ones(2, 3), n=3)
