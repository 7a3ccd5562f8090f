"""Trainings with published weights: features computed once, a head on them, or all of it at two rates."""

import dataclasses
import shutil

import pytest
import torch
from PIL import Image

from dropkit.errors import DropkitError
from dropkit.files import read_json
from dropkit.layers.units import Dropout
from dropkit.models import zoo
from dropkit.runs import features as module
from dropkit.runs import training
from dropkit.runs.features import coloured, image_size_of
from dropkit.runs.fitting import Fit, build_model
from dropkit.runs.labelling import label_pictures
from dropkit.runs.record import RunFolder
from dropkit.runs.run import read_run, train_command
from dropkit.runs.training import load_data, train

MODEL = "timm:test_resnet"


@pytest.fixture
def frozen(short, published):
    """Make configs that train a head on a small frozen network, at a size that takes no time."""

    def make(**changes):
        given = {"model": MODEL, "pretrained": True, "image_size": "9", "max_train": 120, "epochs": 3}
        given |= {"precision": "float32"}  # convolutions in bfloat16 are not to be trusted on maps of a single pixel
        return short(**{**given, **changes})

    return make


@pytest.fixture
def computed(monkeypatch):
    """Count how many pictures the frozen network is given, each time that features are computed."""
    counts = []
    plain = module.compute_features

    def counted(backbone, pictures, expected, device, indices, **options):
        counts.append(len(indices))
        return plain(backbone, pictures, expected, device, indices, **options)

    monkeypatch.setattr(module, "compute_features", counted)
    return counts


def weights_of(run):
    return (run.folder / "model.safetensors").read_bytes()


def test_a_head_is_trained_on_features_that_are_computed_once(frozen, computed, published, tmp_path):
    run = train(frozen(dropout="fc=0.5"), progress=False)
    assert computed == [120 + 26 + 269]  # what the split needs, not all of the 1,797
    assert run.summary["parameters"] == 96 * 10 + 10
    assert run.summary["data"]["augment"] == "none"
    environment = read_json(run.folder / "environment.json")
    assert environment["features"] == "features"
    assert {"timm", "weights"} <= set(environment)
    shared = tmp_path / "run" / "features"
    other = train(frozen(dropout="none", seed=1, out=str(tmp_path / "b")), progress=False, features=shared)
    assert (len(computed), len(published)) == (1, 1)
    assert read_json(other.folder / "environment.json")["features"] == "../run/features"
    assert train(frozen(dropout="fc=0.5"), progress=False).repeated


def test_the_whole_network_says_what_the_head_said_and_asks_for_no_weights(frozen, published):
    run = train(frozen(), progress=False)
    fit_data = Fit(dataclasses.replace(run.config, pretrained=False, finetune=True), *load_data(run.config)).data
    asked = len(published)
    net = run.model()
    x, labels = fit_data.read(fit_data.test)
    assert x.shape[1] == 3
    stored, known = run.test_predictions()
    torch.testing.assert_close(net(x).detach(), stored, atol=1e-4, rtol=1e-4)
    assert torch.equal(labels, known)
    assert len(published) == asked
    assert not net.training


def test_a_picture_is_labelled_as_it_was_tested(frozen, tmp_path):
    run = train(frozen(image_size="native"), progress=False)
    pictures, split = load_data(run.config)
    files = [tmp_path / f"{place}.png" for place in range(5)]
    for file, image in zip(files, pictures.read(torch.from_numpy(split.test[:5])), strict=True):
        Image.fromarray(image[0].numpy()).save(file)
    expected = run.test_predictions()[0][:5].double().softmax(1)
    for label, row in zip(label_pictures(run, files, device="cpu"), expected, strict=True):
        assert label.class_name == str(int(row.argmax()))
        assert label.probability == pytest.approx(row.max().item(), abs=1e-4)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("weights", ["pretrained", "finetune"])
def test_a_stopped_run_goes_on_to_the_same_bits(frozen, tmp_path, monkeypatch, computed, published, weights):
    config = {"pretrained": weights == "pretrained", "finetune": weights == "finetune", "weight_decay": 0.01}
    config |= {"dropout": "fc=0.5" if weights == "pretrained" else "model", "optimizer": "sgd"}
    whole = train(frozen(**config, out=str(tmp_path / "whole")), progress=False)
    with monkeypatch.context() as patch:
        plain, count = RunFolder.append_metrics, []

        def stop_at_the_third(*args):
            count.append(1)
            if len(count) == 3:
                raise StoppedError
            return plain(*args)

        patch.setattr(RunFolder, "append_metrics", stop_at_the_third)
        with pytest.raises(StoppedError):
            train(frozen(**config), progress=False)
    computed.clear(), published.clear()
    resumed = train(frozen(**config), progress=False)
    assert weights_of(resumed) == weights_of(whole)
    assert computed == published == []


def test_other_weights_are_refused_on_resume(frozen, published, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "_finish", lambda *args: (_ for _ in ()).throw(StoppedError))
    with pytest.raises(StoppedError):
        train(frozen(), progress=False)
    shutil.rmtree(tmp_path / "run" / "features")
    plain = zoo.untrained
    monkeypatch.setattr(zoo, "untrained", lambda name: (torch.rand(1), plain(name))[1])  # as if published anew
    with pytest.raises(DropkitError, match="weights are others than those with which the run"):
        train(frozen(), progress=False)


def test_other_pictures_have_other_features(frozen, computed, tmp_path):
    shared = tmp_path / "features"
    for number, changes in enumerate(({}, {"image_size": "11"}, {"max_train": 130}, {"max_train": None})):
        train(frozen(epochs=1, out=str(tmp_path / str(number)), **changes), progress=False, page=False, features=shared)
    assert computed == [415, 415, 427, 1797]
    # where all are known, a part need not be computed
    train(frozen(epochs=1, max_train=140, out=str(tmp_path / "part")), progress=False, page=False, features=shared)
    assert len(computed) == 4


def test_what_is_not_needed_is_marked(frozen):
    config = frozen()
    pictures, split = load_data(config)
    features = module.features_in_memory(config.model, pictures, split, torch.device("cpu"))
    known = ~features.values.isnan().any(1)
    assert set(known.nonzero()[:, 0].tolist()) == {*split.train, *split.val, *split.test}
    fit = Fit(config, pictures, split, features)
    assert torch.equal(fit.data.read(fit.data.val)[0], features.values[fit.data.val])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": "conv=0.1"}, "'conv' is not in the head"),
        ({"model": "timm:test_resnext"}, "unknown model 'timm:test_resnext'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not available"),
        ({"dropout": "fc=dropblock:0.5"}, "drops blocks of feature maps, but head has none"),
    ],
)
def test_bad_input_computes_nothing(frozen, computed, changes, message):
    with pytest.raises(DropkitError, match=message):
        train(frozen(**changes), progress=False)
    assert computed == []


def test_features_that_are_missing_are_a_message(frozen):
    run = train(frozen(epochs=1), progress=False)
    shutil.rmtree(run.folder / "features")
    with pytest.raises(DropkitError, match="weights of the frozen network are missing: .*weights.safetensors"):
        run.model()


def test_pictures_have_the_size_of_the_weights_unless_told_otherwise(libraries, short):
    assert image_size_of(short(model=MODEL, finetune=True)) == "160x160"
    assert image_size_of(short(model=MODEL, finetune=True, image_size="native")) == "native"
    assert image_size_of(short(model=MODEL)) is None
    assert load_data(short(model=MODEL, pretrained=True, max_train=20))[0].shape == (1, 160, 160)


# Finetune


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_published_weights_move_at_a_tenth_of_the_rate(frozen, optimizer):
    config = frozen(pretrained=False, finetune=True, optimizer=optimizer, lr=0.3, dropout="model")
    fit = Fit(config, *load_data(config))
    rates = {id(parameter): group["lr"] for group in fit.optimizer.param_groups for parameter in group["params"]}
    named = {name: rates[id(parameter)] for name, parameter in fit.model.named_parameters()}
    assert {name for name, rate in named.items() if rate == 0.3} == {"fc.weight", "fc.bias"}
    assert all(rate == pytest.approx(0.03) for name, rate in named.items() if not name.startswith("fc."))
    assert all(group["weight_decay"] == 0 for group in fit.optimizer.param_groups)


def test_a_policy_acts_everywhere_and_leaves_the_rates_of_learning(frozen):
    config = frozen(pretrained=False, finetune=True, lr=0.3, dropout="conv=connect:0.1,fc=concrete:0.2", epochs=1)
    fit = Fit(config, *load_data(config))
    rates = {id(parameter): group["lr"] for group in fit.optimizer.param_groups for parameter in group["params"]}
    fast = {name for name, parameter in fit.model.named_parameters() if rates[id(parameter)] == 0.3}
    learned = {name for name, _ in fit.model.named_parameters() if name.endswith("p_logit")}
    assert len(learned) == 1
    assert fast == {"fc.weight", "fc.bias", *learned}
    assert train(config, progress=False).model().training is False


def test_finetuning_begins_with_the_published_weights_and_a_head_of_the_seed(frozen):
    config = frozen(pretrained=False, finetune=True, dropout="model")
    nets = [build_model(dataclasses.replace(config, seed=seed), (1, 9, 9), 10).state_dict() for seed in (1, 1, 2)]
    kept = zoo.pretrained_weights(MODEL)[0].state_dict()
    assert all(torch.equal(nets[0][name], kept[name]) for name in kept if not name.startswith("fc."))
    assert torch.equal(nets[0]["fc.weight"], nets[1]["fc.weight"])
    assert not torch.equal(nets[0]["fc.weight"], nets[2]["fc.weight"])
    assert coloured((1, 9, 9)) == (3, 9, 9)


def test_a_finetuned_network_is_opened_without_a_download(frozen, published):
    run = train(frozen(pretrained=False, finetune=True, dropout="model", epochs=1), progress=False)
    fit = Fit(run.config, *load_data(run.config))
    published.clear()
    x, _ = fit.data.read(fit.data.test)
    torch.testing.assert_close(run.model()(x).detach(), run.test_predictions()[0], atol=1e-4, rtol=1e-4)
    assert published == []
    assert "--finetune" in train_command(run.config).split()


# From the start


def test_a_librarys_network_trains_from_the_start(libraries, short):
    run = train(short(model="torchvision:squeezenet1_0", image_size="24", max_train=60, epochs=1, dropout="model"))
    assert run.model().features[0].in_channels == 1
    assert "torchvision" in read_json(run.folder / "environment.json")


OWN = """
import random
import torch
import torch.nn.functional as F
from torch import nn

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        x = F.dropout(self.drop(x.flatten(1)), 0.3, self.training)
        return self.fc(x + torch.randn_like(x) * random.random() if self.training else x)

def small(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 17), nn.ReLU(), nn.Linear(17, num_classes))
"""


def test_the_code_of_a_users_own_network_is_part_of_the_run(short, tmp_path, monkeypatch):
    path = tmp_path / "nets.py"
    path.write_text(OWN)
    config = short(model=f"{path}:small", dropout="model")
    run = train(config, progress=False)
    assert run.model()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert train(config, progress=False).repeated
    path.write_text(OWN.replace("ReLU", "Tanh"))
    for again in (lambda: train(config, progress=False), read_run(run.folder).model):
        with pytest.raises(DropkitError, match=r"the code of '.*nets.py:small' has changed since the run in"):
            again()


def test_what_a_users_own_network_draws_is_drawn_again(short, tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(OWN)
    config = {"model": f"{tmp_path}/noisy.py:Noisy", "dropout": "model", "precision": "float32"}
    torch.manual_seed(1)
    whole = train(short(**config, out=str(tmp_path / "whole")), progress=False)
    with monkeypatch.context() as patch:
        plain, count = RunFolder.append_metrics, []

        def stop_at_the_second(*args):
            count.append(1)
            if len(count) == 2:
                raise StoppedError
            return plain(*args)

        patch.setattr(RunFolder, "append_metrics", stop_at_the_second)
        with pytest.raises(StoppedError):
            train(short(**config), progress=False)
    torch.manual_seed(2)
    assert weights_of(train(short(**config), progress=False)) == weights_of(whole)


def test_the_data_are_read_at_the_networks_size_only_after_the_policy_was_read(frozen, monkeypatch):
    monkeypatch.setattr(training, "load", None)
    with pytest.raises(DropkitError, match="is not in the head"):
        load_data(frozen(dropout="input=0.1"))


def test_learned_rates_of_a_head_have_no_decay_and_the_full_rate(frozen):
    config = frozen(dropout="head=concrete:0.1", weight_decay=0.01, lr=0.3)
    fit = Fit(config, *load_data(config))
    by_decay = {group["weight_decay"]: len(group["params"]) for group in fit.optimizer.param_groups}
    assert by_decay == {0.01: 1, 0.0: 2}
    assert {group["lr"] for group in fit.optimizer.param_groups} == {0.3}
    none = Fit(frozen(dropout="none"), *load_data(config))
    assert not any(isinstance(layer, Dropout) for layer in none.model.modules())
