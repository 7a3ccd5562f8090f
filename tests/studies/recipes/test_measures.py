"""What is measured of a run, and that what takes its time is measured once."""

import dataclasses

import pytest

from dropkit.files import read_json
from dropkit.runs.config import TrainConfig
from dropkit.runs.training import load_data, train
from dropkit.studies.evidence.activity import activity_of_run
from dropkit.studies.recipes import measures
from dropkit.studies.recipes.measures import Measuring
from dropkit.studies.recipes.recipe import Measure


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = TrainConfig(data="digits", model="mlp:32", dropout="fc=0.5", epochs=2, threads=1)
    data = load_data(config)
    folder = tmp_path_factory.mktemp("run") / "a-seed0"
    return train(dataclasses.replace(config, out=str(folder)), progress=False, page=False, data=data), data[0]


def test_an_error_has_a_value_for_every_test_picture(trained, tmp_path):
    run, pictures = trained
    found = Measuring(tmp_path, [Measure()], progress=False)(Measure(), run, pictures)
    assert found.value == run.summary["test"]["error"]
    assert set(found.pictures) == {0.0, 1.0}
    assert found.pictures.mean() == found.value


def test_averages_are_drawn_together(trained, tmp_path):
    run, pictures = trained
    asked = [Measure(), Measure("average", 1), Measure("average", 4)]
    measuring = Measuring(tmp_path, asked, progress=False)
    one, four = (measuring(measure, run, pictures) for measure in asked[1:])
    assert one.value > four.value > 0
    assert one.pictures.mean() == pytest.approx(one.value)
    assert [path.name for path in (tmp_path / "measured").iterdir()] == ["a-seed0-averages.safetensors"]


def test_activity_is_of_the_first_hidden_layer_and_kept(trained, tmp_path, monkeypatch):
    run, pictures = trained
    measuring = Measuring(tmp_path, [Measure("zeros")], progress=False)
    layer = activity_of_run(run)[0]
    for kind, key in (("activation", "mean"), ("zeros", "zero")):
        found = measuring(Measure(kind), run, pictures)
        assert (found.value, found.pictures) == (layer[key], None)
    assert read_json(tmp_path / "measured" / "a-seed0-activity.json")[0]["layer"] == layer["layer"]
    monkeypatch.setattr(measures, "activity_of_run", lambda run, **how: pytest.fail("measured again"))
    assert measuring(Measure("zeros"), run, pictures).value == layer["zero"]
