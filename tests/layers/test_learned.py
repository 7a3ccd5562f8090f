"""Learned rates: the relaxed mask, its regularizer, and that the rate found is the one that minimises the loss."""

import copy
import io
import math
from contextlib import nullcontext

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

import dropkit.runs.fitting as fitting
from dropkit.errors import DropkitError
from dropkit.layers import Dropout, keyed
from dropkit.layers.learned import ConcreteDropout, ConcreteDropout2d, concrete_loss, learned_rates
from dropkit.masks import Key, site_of
from dropkit.masks.reference import random16
from dropkit.runs.checkpoint import load_checkpoint, save_checkpoint
from dropkit.runs.config import TrainConfig
from dropkit.runs.training import load_data, train

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")

LAYERS = [(ConcreteDropout, 0.1), (ConcreteDropout2d, 2 / 3)]  # and their temperature
each_layer = pytest.mark.parametrize(("kind", "temperature"), LAYERS)
SHAPE = (3, 5, 7, 11)


def activation(*shape, dtype=torch.float32):
    return torch.randn(shape or SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).to(dtype)


def logit(p):
    return math.log(p / (1 - p))


def factor(kind, temperature, p, key):
    """(1 - z) / (1 - p) as the paper has it, in float64, for a batch of SHAPE."""
    spatial = kind is ConcreteDropout2d
    r = random16(SHAPE[0], SHAPE[1] if spatial else math.prod(SHAPE[1:]), key).double()
    u = ((r + 0.5) / 65536).view(SHAPE[0], SHAPE[1], *((1, 1) if spatial else SHAPE[2:]))
    z = torch.sigmoid((logit(p) + u.log() - (1 - u).log()) / temperature)
    return (1 - z) / (1 - p)


def run(layer, x, seed=1, first=0):
    with keyed(nn.ModuleDict({"drop": layer}), seed=seed, step=5, first_sample=first):
        return layer(x)


# The relaxed mask


@each_layer
@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_the_mask_is_that_of_the_paper(kind, temperature, p):
    x = activation()
    expected = x.double() * factor(kind, temperature, p, Key(1, site_of("drop"), 5, 2))
    for given in (x, x.to(memory_format=torch.channels_last)):
        y = run(kind(p), given, first=2)
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6)
        assert y.stride() == given.stride()


@each_layer
def test_parts_of_a_batch_get_the_masks_of_the_batch(kind, temperature):
    x, layer = activation(), kind(0.3)
    whole = run(layer, x)
    assert torch.equal(torch.cat([run(layer, x[:1]), run(layer, x[1:], first=1)]), whole)
    assert not torch.equal(run(layer, x[1:]), whole[1:])


def test_half_of_z_or_more_has_the_probability_p():
    """sigmoid(a / t) > 1/2 means u > 1 - p, whatever the temperature."""
    torch.manual_seed(5)
    for layer, x in (
        (ConcreteDropout(0.3), torch.ones(7, 15_013)),
        (ConcreteDropout2d(0.3), torch.ones(7, 15_013, 1, 1)),
    ):
        dropped = int((layer(x) * 0.7 < 0.5).sum())
        n = x.numel()
        assert abs(dropped - 0.3 * n) < 5 * (n * 0.21) ** 0.5


@each_layer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_have_the_same_noise_and_are_rounded_once(kind, temperature, dtype):
    x = activation(dtype=dtype)
    y = run(kind(0.3), x)
    assert y.dtype == dtype
    expected = x.double() * factor(kind, temperature, 0.3, Key(1, site_of("drop"), 5))
    # half an ulp of the result; of float64, the error of the logits in float32, at most 2**-21, over the temperature
    bound = torch.finfo(dtype).eps / 2 * 1.01 if dtype != torch.float64 else 2**-21 / temperature
    tiny = torch.finfo(dtype).smallest_normal
    assert ((y.double() - expected).abs() <= bound * expected.abs() + tiny * 1e-2 + 1e-9).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(kind(0.3), x), y)


@each_layer
def test_gradients(kind, temperature):
    layer = kind(0.3).double()

    def f(x, p_logit):
        with keyed(nn.ModuleDict({"drop": layer}), seed=1, step=5):
            return functional_call(layer, {"p_logit": p_logit}, (x,))

    inputs = activation(2, 3, 1, 2, dtype=torch.float64).requires_grad_(), layer.p_logit.detach().requires_grad_()
    assert torch.autograd.gradcheck(f, inputs)
    (gradient,) = torch.autograd.grad(f(*inputs).sum(), inputs[1])
    assert gradient.shape == (1,)
    assert gradient != 0


@each_layer
def test_eval_and_nothing_are_the_identity(kind, temperature):
    x = activation()
    assert kind(0.3).eval()(x) is x
    empty = torch.ones(0, 5, 7, 11)
    assert kind(0.3)(empty) is empty


def test_calls_differ_and_a_seed_repeats_them():
    layer, x = ConcreteDropout(0.5), torch.ones(5, 7)
    torch.manual_seed(7)
    first, second = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert not torch.equal(copy.deepcopy(layer)(x), layer(x))


# The rate


def test_p_is_read_and_set_as_a_float():
    layer = ConcreteDropout(0.3)
    parameter = layer.p_logit
    assert layer.p == pytest.approx(0.3, rel=1e-6)
    layer.p = 0.001
    assert layer.p_logit is parameter
    assert parameter.item() == pytest.approx(logit(0.001), rel=1e-6)
    assert repr(layer) == "ConcreteDropout(p=0.001)"
    assert ConcreteDropout().p == pytest.approx(0.1)
    assert repr(ConcreteDropout(0.2).to("meta")) == "ConcreteDropout()"


@pytest.mark.parametrize("p", [-0.1, 1.5, True, float("nan")])
def test_no_probability(p):
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
        ConcreteDropout(p)


@pytest.mark.parametrize("p", [0, 1.0])
def test_the_ends_cannot_be_learned(p):
    with pytest.raises(DropkitError, match=f"ConcreteDropout2d learns a p between 0 and 1.*but got {p:g}"):
        ConcreteDropout2d(p)
    layer = ConcreteDropout(0.5)
    with pytest.raises(DropkitError):
        layer.p = p
    assert layer.p == 0.5


def test_input_that_cannot_be_taken():
    with pytest.raises(TypeError, match=r"concrete_dropout\(\): argument 'input' .* must be Tensor, not int"):
        ConcreteDropout()(5)
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        ConcreteDropout()(torch.ones(3, dtype=torch.int64))
    with pytest.raises(DropkitError, match=r"takes input of shape \(N, C, H, W\), but got \(3, 5\)"):
        ConcreteDropout2d()(torch.ones(3, 5))
    assert ConcreteDropout()(torch.tensor(2.0)).shape == ()


# The layer that reads the output


def network(p=0.2):
    conv, head = nn.Conv2d(3, 5, 3), nn.Linear(5 * 5 * 9, 2)
    return nn.Sequential(
        ConcreteDropout2d(p, layer=conv), conv, nn.Tanh(), nn.Flatten(), ConcreteDropout(p, layer=head), head
    )


def test_the_reader_is_no_child_and_a_copy_has_its_own():
    model = network()
    assert list(model.state_dict()) == ["0.p_logit", "1.weight", "1.bias", "4.p_logit", "5.weight", "5.bias"]
    assert len(list(model.parameters())) == 6
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert twin[0].reader == (twin[1], 3)
        assert twin[4].reader == (twin[5], 225)
        assert twin[1] is not model[1]
        concrete_loss(twin, 10).backward()
        assert twin[1].weight.grad is not None
    assert model[1].weight.grad is None


def test_the_reader_may_hold_the_layer():
    """As a network's sites do it: the dropout hangs on the layer whose input it drops."""
    head = nn.Linear(5, 2)
    head.add_module("site_dropout", ConcreteDropout(0.2, layer=head))
    assert list(head.state_dict()) == ["weight", "bias", "site_dropout.p_logit"]
    assert copy.deepcopy(head).site_dropout.reader[0] is not head
    assert concrete_loss(head, 10).isfinite()


def test_layers_that_cannot_be_readers():
    with pytest.raises(DropkitError, match=r"ConcreteDropout feeds a layer with a weight.*but got ReLU\(\)"):
        ConcreteDropout(layer=nn.ReLU())
    with pytest.raises(DropkitError, match="how many of its inputs ConcreteDropout drops.*say inputs="):
        ConcreteDropout(layer=nn.BatchNorm2d(3))
    with pytest.raises(DropkitError, match="how many of its inputs ConcreteDropout2d drops.*say inputs="):
        ConcreteDropout2d(layer=nn.Linear(45, 2))
    assert ConcreteDropout2d(layer=nn.Linear(45, 2), inputs=5).reader[1] == 5


# The regularizer


def kl(p, weight, inputs, length_scale):
    """Equations (3) and (4) with the weights M that act where a unit is kept and nothing is scaled."""
    m = weight.double() / (1 - p)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    return length_scale**2 * (1 - p) / 2 * (m**2).sum() - inputs * entropy


def test_the_loss_is_the_kl_over_the_number_of_samples():
    model = network()
    model[0].p = 0.4
    total = kl(0.4, model[1].weight, 3, 0.3) + kl(0.2, model[5].weight, 225, 0.3)
    torch.testing.assert_close(concrete_loss(model, 77, length_scale=0.3).double(), total / 77)
    # of a Gaussian likelihood: the squared error is 2 / tau times its negative logarithm
    torch.testing.assert_close(concrete_loss(model, 77, length_scale=0.3, precision=5.0).double(), total / 77 * 2 / 5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(concrete_loss(model, 77, length_scale=0.3).double(), total / 77)
    assert concrete_loss(model.half(), 77).dtype == torch.float32
    assert concrete_loss(nn.Sequential(model), 77).requires_grad


def test_the_constants_for_a_squared_error_are_the_authors():
    """Weight regularizer l^2 / (tau N), dropout regularizer 2 / (tau N)."""
    model = network(0.5)
    squares = sum(float((model[i].weight.detach() ** 2).sum()) for i in (1, 5))
    expected = 0.01**2 / (3 * 77) * squares / 0.5 - 2 / (3 * 77) * (3 + 225) * math.log(2)
    assert concrete_loss(model, 77, precision=3).item() == pytest.approx(expected, rel=1e-5)


def test_models_whose_loss_is_not_known():
    with pytest.raises(DropkitError, match="the model has no concrete layer"):
        concrete_loss(nn.Sequential(nn.Linear(3, 2), Dropout(0.5)), 10)
    model = network()
    model[5] = nn.Linear(225, 2)
    with pytest.raises(DropkitError, match="reads the output of the ConcreteDropout at '4' is not part of the model"):
        concrete_loss(model, 10)
    model[4].feeds(model[5])
    concrete_loss(model, 10)
    model[0] = ConcreteDropout2d()
    with pytest.raises(
        DropkitError, match=r"ConcreteDropout2d at '0' is not known.*get_submodule\('0'\).feeds\(layer\)"
    ):
        concrete_loss(model, 10)


@pytest.mark.parametrize("wrong", [{"n_train": 0}, {"precision": -1.0}, {"length_scale": float("nan")}])
def test_numbers_that_are_not_positive(wrong):
    (name,) = wrong
    with pytest.raises(DropkitError, match=f"concrete_loss takes a positive {name}, but got"):
        concrete_loss(network(), **{"n_train": 10, **wrong})


# The rate that is found


UNITS, SAMPLES = 53, 499


def expected_loss(p, n_train, precision, length_scale):
    """E over the noise of the squared error of a fixed linear model whose target is its mean, + the regularizer.

    With w = 1 / sqrt(UNITS) and x = 1 the output is w * (sum of UNITS independent factors). All 65,536 values of the
    noise are enumerated: mean and variance are exact.
    """
    u = (torch.arange(65536).double() + 0.5) / 65536
    m = (1 - torch.sigmoid((logit(p) + u.log() - (1 - u).log()) / 0.1)) / (1 - p)
    bias = (m.mean() - 1) * UNITS**0.5
    error = bias**2 + m.var(unbiased=False)
    return (error + 2 / precision / n_train * kl(p, torch.full((UNITS,), UNITS**-0.5), UNITS, length_scale)).item()


def bernoulli_optimum(n_train, precision, length_scale):
    """The zero of d/dp of p / (1-p) + a / (1-p) + b (p ln p + (1-p) ln(1-p)): mask without relaxation."""
    a, b = length_scale**2 / (precision * n_train), 2 * UNITS / (precision * n_train)
    low, high = 1e-6, 0.5
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if (1 + a) / (1 - p) ** 2 + b * logit(p) < 0 else (low, p)
    return low


def learned(n_train, precision, length_scale, start):
    torch.manual_seed(11)
    head = nn.Linear(UNITS, 1, bias=False).requires_grad_(False)
    head.weight.fill_(UNITS**-0.5)
    drop = ConcreteDropout(start, layer=head)
    model, x = nn.Sequential(drop, head), torch.ones(SAMPLES, UNITS)
    optimizer = torch.optim.Adam([drop.p_logit], lr=0.05)
    logits = []
    for _ in range(300):
        loss = (model(x) - UNITS**0.5).square().mean()
        loss = loss + concrete_loss(model, n_train, precision=precision, length_scale=length_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logits.append(drop.p_logit.item())
    return 1 / (1 + math.exp(-sum(logits[-150:]) / 150))


@pytest.mark.parametrize(("n_train", "precision"), [(37, 1.0), (157, 1.0), (157, 0.25)])
def test_gradient_descent_finds_the_rate_with_the_lowest_expected_loss(n_train, precision):
    length_scale = 2.0
    grid = [0.01 * i for i in range(1, 60)]
    best = min(grid, key=lambda p: expected_loss(p, n_train, precision, length_scale))
    assert abs(bernoulli_optimum(n_train, precision, length_scale) - best) < 0.04
    for start in (0.05, 0.5):
        assert abs(learned(n_train, precision, length_scale, start) - best) < 0.015


# Under everything that torch does with layers


@pytest.mark.parametrize("under_key", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_compiled_equals_eager_in_one_compilation_while_rates_move(under_key, checkpointed):
    torch._dynamo.reset()
    model, x = network(), activation(3, 3, 7, 11)

    def run(x):
        return checkpoint(model, x, use_reentrant=False) if checkpointed else model(x)

    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(run, backend=counter, fullgraph=True)
    found = []
    for p, call in ((0.5, compiled), (0.2, compiled), (0.2, run), (0.2, model)):
        model[4].p = p
        torch.manual_seed(13)
        with keyed(model, seed=2**63, step=3) if under_key else nullcontext():
            y = call(x)
            torch.rand(3)  # another draw between forward and recomputation
        found.append([y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))])
    for compiled_once, eager, plain in zip(*found[1:], strict=True):
        torch.testing.assert_close(compiled_once, eager)
        assert torch.equal(eager, plain)
        assert plain.abs().sum() > 0
    assert counter.frame_count == 1


def test_the_loss_compiles():
    torch._dynamo.reset()
    model = network()
    compiled = torch.compile(concrete_loss, backend="aot_eager", fullgraph=True)
    found = []
    for f in (compiled, concrete_loss):
        loss = f(model, 77)
        found.append([loss, *torch.autograd.grad(loss, [model[0].p_logit, model[5].weight])])
    for ours, eager in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager)


def test_exported():
    model, x = network(), activation(3, 3, 7, 11)
    exported = torch.export.export(model, (x,)).module()
    torch.manual_seed(17)
    expected = model(x)
    torch.manual_seed(17)
    assert torch.equal(exported(x), expected)
    assert torch.export.export(model.eval(), (x,)).module()(x).equal(model(x))


def test_vmap():
    x = torch.ones(4, 5, 3, 2, 2)
    for layer in (ConcreteDropout(0.5), ConcreteDropout2d(0.5)):
        same = vmap(layer, randomness="same")(x)
        # Not to the bit: a vector and what is left over of a row of them need not round a logistic function alike.
        assert torch.allclose(same, same[:1].expand_as(same), rtol=1e-6, atol=1e-6)
        different = vmap(layer, randomness="different")(x)
        assert len({tuple(row.flatten().tolist()) for row in different}) == 4
        with pytest.raises(RuntimeError, match="randomness error mode"):
            vmap(layer)(x)


def test_rates_of_an_ensemble():
    """torch.func over a batch of parameters."""
    layer, x = ConcreteDropout(0.5), activation()
    rates = torch.tensor([[logit(0.2)], [logit(0.7)]])
    with keyed(layer, seed=1, step=1):
        y = vmap(lambda p_logit: functional_call(layer, {"p_logit": p_logit}, (x,)))(rates)
        for i, p in enumerate((0.2, 0.7)):
            layer.p = p
            torch.testing.assert_close(y[i], layer(x))


# In a training


@pytest.fixture
def concrete(monkeypatch):
    """Let trainings learn the rate before the MLP's last layer."""
    plain = fitting.build_model

    def build(*arguments):
        model = plain(*arguments)
        linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        layer = ConcreteDropout(0.2, layer=linears[-1])
        linears[-1].add_module("concrete", layer)
        linears[-1].register_forward_pre_hook(lambda module, args: module.concrete(args[0]))
        return model

    monkeypatch.setattr(fitting, "build_model", build)


@pytest.fixture(scope="module")
def digits():
    return load_data(TrainConfig(data="digits"))


def test_a_step_lowers_cross_entropy_and_concrete_loss_without_decay_of_what_the_latter_decays(concrete, short, digits):
    config, data = short(dropout="none", seed=3, weight_decay=0.01, precision="float32"), digits
    fit, hand = fitting.Fit(config, *data), fitting.Fit(config, *data)
    fit.train_epoch(most_steps=2)
    readers = {id(module.reader[0].weight) for module in hand.model.modules() if isinstance(module, ConcreteDropout)}
    free, decayed = [], []
    for name, parameter in hand.model.named_parameters():
        (free if name.endswith("p_logit") or id(parameter) in readers else decayed).append(parameter)
    assert len(free) == 2
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": free}]
    optimizer = torch.optim.Adam(groups, lr=1e-3, fused=True)
    hand.model.train()
    for step, indices in zip(range(2), hand.data.epoch(3, 0, 128), strict=False):
        x, y = hand.data.read(indices)
        with keyed(hand.model, seed=3, step=step):
            loss = F.cross_entropy(hand.model(x), y) + concrete_loss(hand.model, len(data[1].train))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    states = fit.model.state_dict(), hand.model.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert learned_rates(fit.model) != pytest.approx({next(iter(learned_rates(fit.model))): 0.2}, rel=1e-5)


def test_a_checkpoint_goes_on_with_the_rates(concrete, short, digits, tmp_path):
    config = short(dropout="none", precision="float32")
    fit, again = fitting.Fit(config, *digits), fitting.Fit(config, *digits)
    fit.train_epoch(most_steps=2)
    save_checkpoint(tmp_path / "checkpoint", fit.model, {}, fit.optimizer, {})
    load_checkpoint(tmp_path / "checkpoint", again.model, again.optimizer)
    assert learned_rates(again.model) == learned_rates(fit.model)
    again.progress.step = 2
    for one in (fit, again):
        one.train_epoch(most_steps=2)
    states = fit.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_each_epoch_records_the_rates_and_the_page_shows_them(concrete, short, digits):
    run = train(short(dropout="none", epochs=2), progress=False, data=digits)
    (path,) = run.epochs[0]["learned_rates"]
    assert path.endswith("concrete")
    rates = [row["learned_rates"][path] for row in run.epochs]
    assert all(0 < rate < 1 for rate in rates)
    assert rates[0] != rates[1]
    assert 'id="learned-rates"' in run.page.read_text()


def test_a_training_without_learned_rates_records_none(short, digits):
    fit = fitting.Fit(short(dropout="fc=0.5"), *digits)
    assert "learned_rates" not in fit.run_epoch()
    assert len(fit.optimizer.param_groups) == 1


@pytest.mark.parametrize(("p", "expected"), [(0.3, 0.946), (0.9, 1.45)])
def test_the_mean_of_a_relaxed_mask_is_what_the_page_says(p, expected):
    torch.manual_seed(0)
    with torch.no_grad():
        y = ConcreteDropout2d(p)(torch.ones(20_000, 16, 1, 1)).flatten()
    assert abs(float(y.mean()) - expected) < 5 * float(y.std()) / len(y) ** 0.5 + 0.005
