"""The loop: what a step does, when training stops, what is measured."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dropkit.errors import DropkitError
from dropkit.layers.keyed import keyed
from dropkit.runs.distributed import World
from dropkit.runs.fitting import (
    DivergedError,
    Fit,
    augmentation_of,
    loses_bfloat16,
    pick_device,
    pick_precision,
)
from dropkit.runs.training import load_data


@pytest.fixture(scope="module")
def digits():
    from dropkit.runs.config import TrainConfig

    return load_data(TrainConfig(data="digits"))


def fit_of(config, data):
    return Fit(dataclasses.replace(config, precision="float32"), *data)


def test_seed_alone_decides_the_initial_weights(short, digits):
    first = fit_of(short(dropout="none"), digits).model.state_dict()
    torch.manual_seed(123)  # the global generator does not enter
    same = fit_of(short(dropout="fc=0.5"), digits).model.state_dict()
    other = fit_of(short(dropout="none", seed=1), digits).model.state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_the_global_generator_is_left_as_it_was(short, digits):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fit = fit_of(short(), digits)
    fit.run_epoch()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_is_adams_on_the_thinned_networks_cross_entropy(short, digits):
    """Two steps by hand, with the same batches and masks, give the same weights."""
    config = short(dropout="fc=0.5", seed=3, weight_decay=0.01)
    fit, hand = fit_of(config, digits), fit_of(config, digits)
    assert fit.train_epoch(most_steps=2) == 256
    optimizer = torch.optim.Adam(hand.model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    hand.model.train()
    for step, indices in zip(range(2), hand.data.epoch(3, 0, 128), strict=False):
        x, y = hand.data.read(indices)
        with keyed(hand.model, seed=3, step=step):
            loss = F.cross_entropy(hand.model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    states = fit.model.state_dict(), hand.model.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_schedule_and_max_norm_are_part_of_the_step(short, digits):
    """Steps by hand, with the rate of each step and the norms clamped, give the same weights."""
    config = short(dropout="fc[0]=0.5,fc[1]=0.2", schedule="early:0.25", max_norm=0.5, epochs=2, optimizer="sgd")
    fit, hand = fit_of(config, digits), fit_of(config, digits)
    assert fit.data.steps(128) == 10
    fit.train_epoch(most_steps=7)
    hand.model.train()
    layers = hand.model.hidden.dropout1, hand.model.hidden.dropout2
    for step, indices in zip(range(7), hand.data.epoch(0, 0, 128), strict=False):
        layers[0].p, layers[1].p = (p * max(1 - step / 20 / 0.25, 0.0) for p in (0.5, 0.2))
        x, y = hand.data.read(indices)
        with keyed(hand.model, seed=0, step=step):
            loss = F.cross_entropy(hand.model(x), y)
        hand.optimizer.zero_grad()
        loss.backward()
        hand.optimizer.step()
        with torch.no_grad():
            for module in hand.model.modules():
                if isinstance(module, torch.nn.Linear):
                    norms = module.weight.norm(dim=1, keepdim=True)
                    module.weight.div_((norms / 0.5).clamp(min=1))
    assert layers[0].p == layers[1].p == 0
    states = fit.model.state_dict(), hand.model.state_dict()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-5, atol=1e-6)
    assert (fit.model.head.weight.norm(dim=1) > 0.5 * (1 - 1e-6)).any()
    plain = fit_of(dataclasses.replace(config, max_norm=None), digits)
    plain.train_epoch(most_steps=7)
    assert (plain.model.head.weight.norm(dim=1) > 0.6).any()


def test_rates_follow_the_step_alone_and_stay_at_the_end(short, digits):
    fit = fit_of(short(dropout="fc=0.4", schedule="linear", epochs=5), digits)
    seen = []
    fit.model.hidden.dropout1.register_forward_hook(lambda layer, args, output: seen.append(layer.p))
    batch = fit.data.read(fit.data.train[:5])
    fit.model.train()
    for step in (25, 0, 49, 50, 70):
        fit.progress.step = step
        fit.train_step(*batch)
    assert seen == pytest.approx([0.2, 0.0, 0.4 * 0.98, 0.4, 0.4])


@pytest.mark.parametrize(
    ("name", "family"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimizer_is_the_one_that_was_asked_for(short, digits, name, family):
    optimizer = fit_of(short(optimizer=name, lr=0.25, weight_decay=0.125, momentum=0.5), digits).optimizer
    assert type(optimizer) is family
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)
    if name == "sgd":
        assert (group["nesterov"], group["momentum"]) == (True, 0.5)


def test_training_is_in_train_mode_and_measuring_in_eval_mode(short, digits):
    fit = fit_of(short(dropout="fc=0.9"), digits)
    modes = []
    fit.model.register_forward_hook(lambda module, args, output: modes.append((module.training, len(output))))
    fit.run_epoch()
    n_val = len(fit.data.val)
    steps = fit.data.steps(128)
    assert [training for training, _ in modes] == [True] * steps + [False] * (len(modes) - steps)
    assert sum(n for training, n in modes if not training) == 2 * n_val


def test_the_row_holds_what_the_weights_give(short, digits):
    fit = fit_of(short(), digits)
    row = fit.run_epoch()
    x, y = fit.data.read(fit.data.val)
    logits = fit.model.eval()(x)
    assert row["val_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-6)
    assert row["val_error"] == pytest.approx((logits.argmax(1) != y).float().mean().item(), rel=1e-6)
    x, y = fit.data.read(fit.data.train_probe)
    assert row["train_loss"] == pytest.approx(F.cross_entropy(fit.model(x), y).item(), rel=1e-6)
    assert (row["epoch"], row["step"]) == (1, fit.data.steps(128))


def test_the_best_epochs_weights_are_kept(short, digits):
    fit = fit_of(short(epochs=100, lr=0.03), digits)  # so fast that the validation loss goes up and down
    snapshots = []
    # until the last epoch is not the best: else this would test nothing
    while len(snapshots) < 5 or fit.progress.best_epoch == len(snapshots):
        fit.run_epoch()
        snapshots.append({key: value.clone() for key, value in fit.model.state_dict().items()})
    losses = [row["val_loss"] for row in fit.progress.rows]
    best = int(np.argmin(losses))
    assert best < len(snapshots) - 1
    assert fit.progress.best_epoch == best + 1
    assert all(torch.equal(fit.best[key], snapshots[best][key]) for key in fit.best)


@pytest.mark.parametrize(
    ("progress", "min_steps", "done"),
    [
        ({"epoch": 19, "best_epoch": 10}, 190, False),  # patience not yet used up
        ({"epoch": 20, "best_epoch": 10}, 201, False),  # too few steps: an epoch has ten
        ({"epoch": 20, "best_epoch": 10, "step": 205}, 201, False),  # also where the next epoch was stopped midway
        ({"epoch": 20, "best_epoch": 10}, 200, True),
        ({"epoch": 199, "best_epoch": 198}, 1000, False),
        ({"epoch": 200, "best_epoch": 200}, 5000, True),  # the budget
    ],
)
def test_when_training_stops_at_a_plateau(short, digits, progress, min_steps, done):
    fit = fit_of(short(epochs=None, min_steps=min_steps), digits)
    vars(fit.progress).update({"step": 10 * progress["epoch"], **progress})
    assert fit.finished() is done


def test_a_fixed_number_of_epochs_knows_no_patience(short, digits):
    fit = fit_of(short(epochs=30), digits)
    vars(fit.progress).update(epoch=29, best_epoch=1, step=10_000)
    assert not fit.finished()
    fit.progress.epoch = 30
    assert fit.finished()


def test_a_loss_that_is_not_finite_stops_and_names_its_step(short, digits):
    fit = fit_of(short(), digits)
    fit.run_epoch()
    with torch.no_grad():
        fit.data.inverse_std.fill_(math.nan)
    with pytest.raises(DivergedError) as raised:
        fit.run_epoch()
    assert raised.value.step == fit.data.steps(128) + 1
    assert fit.progress.best_epoch == 1
    assert fit.best


def test_a_validation_loss_that_is_not_finite_is_told_from_a_training_loss(short, digits, monkeypatch):
    fit = fit_of(short(), digits)
    monkeypatch.setattr(fit, "evaluate", lambda indices: (math.nan, 0.5))
    with pytest.raises(DivergedError, match="the validation loss is not finite at step 10"):
        fit.run_epoch()


def test_weights_and_pictures_are_channels_last(short, digits):
    fit = fit_of(short(model="cnn"), digits)
    assert fit.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert not fit.model.conv2.weight.is_contiguous()


def test_exact_predictions_are_float32_whatever_the_precision_of_training(short, digits):
    half = Fit(short(precision="bfloat16"), *digits)
    full = Fit(short(precision="float32"), *digits)
    assert torch.equal(half.predict(half.data.test, exact=True), full.predict(full.data.test))
    assert not torch.equal(half.predict(half.data.test), full.predict(full.data.test))


def test_devices_and_precision():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(DropkitError, match="unknown device 'gpu': allowed are auto, cpu, cuda"):
        pick_device("gpu")
    with pytest.raises(DropkitError, match="device 'cuda:99' is not available here.*--device cpu"):
        pick_device("cuda:99")
    assert pick_precision("float32", torch.device("cpu")) == torch.float32
    assert pick_precision("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert pick_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


def test_bfloat16_keeps_the_weights_in_float32_and_learns(short, digits):
    fit = Fit(short(precision="bfloat16", dropout="none"), *digits)
    seen = set()
    fit.model.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    first, second = fit.run_epoch(), fit.run_epoch()
    assert seen == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in fit.model.parameters())
    assert second["val_loss"] < first["val_loss"] < math.log(10)


def test_training_pictures_are_augmented_and_evaluated_ones_are_not(short, digits):
    fit = fit_of(short(augment="flip,crop"), digits)
    plain, _ = fit.data.read(fit.data.train)
    first, labels = fit.data.read_to_train(fit.data.train, epoch=0)
    second, _ = fit.data.read_to_train(fit.data.train, epoch=1)
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second)
    assert torch.equal(labels, fit.data.labels[fit.data.train])
    seen = []
    fit.model.register_forward_pre_hook(lambda module, args: seen.append((module.training, args[0].clone())))
    fit.train_epoch(most_steps=1)
    fit.evaluate(fit.data.val)
    order = next(fit.data.epoch(0, 0, 128))
    assert torch.equal(seen[0][1], fit.data.read_to_train(order, epoch=0)[0])
    assert [training for training, _ in seen] == [True, False, False, False]
    assert torch.equal(torch.cat([x for _, x in seen[1:]]), fit.data.read(fit.data.val)[0])


@pytest.mark.parametrize(
    ("is_folder", "augment", "expected"),
    [(True, None, "flip,crop"), (False, None, "none"), (True, "none", "none"), (False, "flip", "flip")],
)
def test_folders_are_augmented_unless_told_otherwise(short, digits, is_folder, augment, expected):
    pictures = dataclasses.replace(digits[0], is_folder=is_folder)
    assert augmentation_of(short(augment=augment), pictures) == expected


def test_balanced_class_weights_make_classes_count_alike(short, digits):
    pictures, split = digits
    labels = pictures.labels[torch.from_numpy(split.train)]
    some = np.flatnonzero((labels != 3).numpy() | (np.arange(len(labels)) % 5 == 0))  # a fifth of the threes
    unequal = dataclasses.replace(split, train=split.train[some])
    fit = fit_of(short(class_weights="balanced"), (pictures, unequal))
    y = fit.data.labels[fit.data.train]
    assert torch.bincount(y)[3] * 4 < torch.bincount(y)[0]
    weight_of_class = torch.bincount(y, weights=fit.class_weights[y])
    assert weight_of_class.tolist() == pytest.approx([len(y) / 10] * 10, rel=1e-5)
    # the loss is the weighted mean of the pictures'
    logits = fit.predict(fit.data.val).double()
    truth = fit.data.labels[fit.data.val]
    weights = fit.class_weights.double()[truth]
    expected = (F.cross_entropy(logits, truth, reduction="none") * weights).sum() / weights.sum()
    assert fit.evaluate(fit.data.val)[0] == pytest.approx(expected.item())
    assert fit_of(short(), (pictures, unequal)).class_weights is None


def test_one_picture_a_batch_trains_a_network_with_batch_norm(short, digits):
    fit = fit_of(short(model="bn-cnn", batch_size=1), digits)
    assert fit.train_epoch(most_steps=3) == 3
    assert all(value.isfinite().all() for value in fit.model.state_dict().values())


def test_class_weights_enter_the_steps_gradient(short, digits):
    """One step by hand with the weighted loss gives the same weights; without the weights it does not."""
    pictures, split = digits
    some = np.flatnonzero(
        (pictures.labels[torch.from_numpy(split.train)] != 3).numpy() | (np.arange(len(split.train)) % 5 == 0)
    )
    unequal = (pictures, dataclasses.replace(split, train=split.train[some]))
    config = short(dropout="none", optimizer="sgd", momentum=0.0, class_weights="balanced")
    fit, hand, plain = (fit_of(config, unequal) for _ in range(3))
    fit.train_epoch(most_steps=1)
    for other, weights in ((hand, hand.class_weights), (plain, None)):
        x, y = other.data.read(next(other.data.epoch(0, 0, 128)))
        other.model.train()
        F.cross_entropy(other.model(x), y, weights).backward()
        other.optimizer.step()
    states = [other.model.state_dict() for other in (fit, hand, plain)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize(
    ("shape", "lost"), [((1, 8, 8), False), ((1, 4, 4), True), ((1, 9, 4), True), ((1, 9, 9), False)]
)
def test_strides_over_maps_that_are_narrower_ask_for_float32(shape, lost):
    """Three strides of 2 leave maps of 8 pixels no side that is narrower than a stride, those of 4 one."""
    model = torch.nn.Sequential(*(torch.nn.Conv2d(channels, 4, 3, 2, 1) for channels in (1, 4, 4)))
    assert loses_bfloat16(model, shape, torch.device("cpu")) is lost
    assert not loses_bfloat16(model, shape, torch.device("meta"))


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_shares_of_a_batch_make_its_step(short, digits, weights):
    """The gradients of two shares, each with its weight and its masks, add up to the whole batch's."""
    config = short(dropout="fc=0.5", class_weights=weights)
    one, other = fit_of(config, digits), fit_of(config, digits)
    batch = next(one.data.epoch(0, 0, 127))
    one.model.train(), other.model.train()
    loss = one.train_step(*one.data.read(batch))
    total, sums = 0.0, {}
    other.optimizer.step = lambda: None
    for rank in range(2):
        share = World(rank, 2).share(127)
        x, y = other.data.read(batch[share.start : share.stop])
        weight = other.data.weight_of(share, batch, other.class_weights)
        total += other.train_step(x, y, first_sample=share.start, weight=weight).item()
        for name, parameter in other.model.named_parameters():
            sums[name] = sums.get(name, 0) + parameter.grad
    assert total == pytest.approx(loss.item(), rel=1e-6)
    for name, parameter in one.model.named_parameters():
        torch.testing.assert_close(sums[name], parameter.grad, rtol=1e-5, atol=1e-7)


def test_what_a_network_draws_itself_differs_between_processes(short, digits):
    draws = []
    for rank in (0, 1, 1):
        fit = fit_of(short(model="mlp", batch_size=64), digits)
        fit.world, fit.config = World(rank, 2), dataclasses.replace(fit.config, model="other.py:network")
        with fit._seeded():
            draws.append(torch.rand(3).tolist())
    assert draws[0] != draws[1] == draws[2]
