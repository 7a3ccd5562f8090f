"""Studies on published weights: the features are computed once for all trainings, before the first."""

import os
import shutil

import pytest
import torch

from dropkit.errors import DropkitError
from dropkit.runs import features as module
from dropkit.runs.labelling import label_pictures
from dropkit.runs.record import RunFolder
from dropkit.studies.compare import compare
from dropkit.studies.config import CompareConfig
from dropkit.studies.executor import LocalProcesses, _train_in_process
from dropkit.studies.reopen import best_run

OPTIONS = {"model": "timm:test_resnet", "pretrained": True, "image_size": "9", "max_train": 120, "epochs": 2}


@pytest.fixture
def computed(monkeypatch):
    """Count the pictures of each time that features are computed."""
    counts = []
    plain = module.compute_features

    def counted(backbone, pictures, expected, device, indices, **options):
        counts.append(len(indices))
        return plain(backbone, pictures, expected, device, indices, **options)

    monkeypatch.setattr(module, "compute_features", counted)
    return counts


def test_the_default_policies_are_those_of_a_head():
    config = CompareConfig(data="digits", model="timm:resnet18", pretrained=True)
    assert [each.dropout for each in config.configs()] == ["none", "fc=0.5"]


def test_features_are_computed_once_before_the_trainings(published, computed, configs, tmp_path, monkeypatch):
    plain, before = LocalProcesses.map, []

    def mapped(self, tasks, pictures, spool):
        before.append((len(tasks), list(computed), len(list((spool / "features").rglob("*.safetensors")))))
        return plain(self, tasks, pictures, spool)

    monkeypatch.setattr(LocalProcesses, "map", mapped)
    arms = configs("none", "head=0.5", **OPTIONS)
    study = compare(arms, seeds=3, workers=1, out=tmp_path / "study", progress=False)
    assert before == [(6, [415], 2)]  # the weights, and the features
    assert (computed, len(published)) == ([415], 1)
    compare(arms, seeds=4, workers=1, out=tmp_path / "study", progress=False)
    assert (computed, len(published)) == ([415], 1)
    assert study.page.is_file()


def test_a_study_may_be_moved_and_predicts_without_a_download(published, configs, tmp_path):
    compare(configs("none", "fc=0.5", **OPTIONS), seeds=3, workers=1, out=tmp_path / "study", progress=False)
    shutil.move(tmp_path / "study", tmp_path / "elsewhere")
    published.clear()
    run = best_run(tmp_path / "elsewhere")
    assert run.model()(torch.zeros(2, 3, 9, 9)).shape == (2, 10)
    assert list(label_pictures(run, [])) == []
    assert not (run.folder / "features").exists()
    assert published == []


def test_folds_share_the_features_of_all_pictures(published, computed, configs, tmp_path):
    options = {**OPTIONS, "epochs": 1}
    compare(configs("none", "fc=0.5", **options), folds=3, workers=1, out=tmp_path / "study", progress=False)
    assert computed == [1797]


def test_a_policy_beyond_the_head_is_refused_before_anything_is_computed(published, computed, configs, tmp_path):
    with pytest.raises(DropkitError, match="'conv' is not in the head"):
        compare(configs("none", "conv=0.1", **OPTIONS), workers=1, out=tmp_path / "study", progress=False)
    assert computed == []
    assert not (tmp_path / "study").exists()


def test_networks_of_several_sizes_see_the_same_pictures(published, configs, tmp_path):
    arms = configs("none", "none;model=timm:test_efficientnet", **{**OPTIONS, "image_size": None, "max_train": 21})
    seen = []

    class SeenError(Exception):
        pass

    def looked(self, tasks, pictures, spool):
        seen.append((pictures.shape, sorted(path.name for path in (spool / "features").iterdir())))
        raise SeenError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalProcesses, "map", looked)
        patch.setattr("dropkit.studies.plan.estimate", lambda *args: type("Cost", (), {"seconds": 1.0, "epochs": 1}))
        patch.setattr(module, "compute_features", lambda b, p, e, d, i, **options: torch.zeros(len(i), 3))
        with pytest.raises(SeenError):
            compare(arms, seeds=3, workers=1, out=tmp_path / "study", progress=False)
    assert seen == [((1, 160, 160), ["timm-test_efficientnet", "timm-test_resnet"])]


def test_a_process_reads_the_pictures_at_the_size_of_the_weights(published, configs, tmp_path, monkeypatch):
    told = []

    class Pool:
        def __init__(self, **options):
            pass

        def __call__(self, calls):
            told.extend(call[1] for call in calls)
            return iter(())

    monkeypatch.setattr("dropkit.studies.executor.Parallel", Pool)
    pictures = type("Seen", (), {"shape": (1, 160, 150), "fingerprint": "f"})
    for given, size in (({"image_size": None}, "160x150"), ({"image_size": None, "pretrained": False}, None)):
        tasks = configs("none", "fc=0.5", **{**OPTIONS, **given})
        list(LocalProcesses(workers=2, threads=1).map(tasks, pictures, tmp_path))
        assert {args[5] for args in told[-2:]} == {size}
    read = []
    monkeypatch.setattr("dropkit.studies.executor.signal.signal", lambda *args: None)
    monkeypatch.setattr("dropkit.studies.executor._pictures", lambda source, how, *args: read.append(dict(how)))
    monkeypatch.setattr("dropkit.studies.executor._train", lambda *args: None)
    monkeypatch.setattr("dropkit.studies.executor.os.getppid", os.getpid)  # as in a process that this one started
    for args in told:
        _train_in_process(*args)
    assert [how["image_size"] for how in read] == ["160x150", "160x150", None, None]
    assert RunFolder(tmp_path).features == tmp_path / "features"
