"""The space of a search: what may be chosen at a site, and what the parameters mean."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.models.policy import Policy
from dropkit.runs.config import TrainConfig
from dropkit.studies.space import DECAY, Choice, make_space

BASE = TrainConfig(data="digits")


def test_the_default_is_rates_kinds_and_weight_decay():
    space = make_space({"conv", "fc", "input"})
    assert [(c.site, c.kinds, c.most) for c in space.choices] == [
        ("conv", ("unit", "channel", "dropblock"), 0.5),
        ("fc", ("unit",), 0.8),
    ]
    assert space.decays == (0.0, 1e-5, 1e-4, 1e-3)
    assert space.tutorial == "fc=0.5"
    assert list(space.levels()) == ["conv", "conv kind", "fc", DECAY]
    assert [space.title(name) for name in space.levels()] == ["conv rate", "conv kind", "fc rate", "weight decay"]


def test_networks_without_fc_or_conv_have_what_they_have():
    assert [choice.site for choice in make_space({"head"}).choices] == ["head"]
    assert make_space({"conv", "head"}).tutorial == "head=0.5"
    assert [choice.site for choice in make_space({"fc"}).choices] == ["fc"]
    assert make_space({"path", "fc"}, sites=("path",)).choices == (Choice("path", ("sample",), 0.5),)


def test_the_trainings_own_decay_comes_first_and_is_always_there():
    assert make_space({"fc"}, decay=0.02).decays == (0.02, 0.0, 1e-5, 1e-4, 1e-3)
    assert make_space({"fc"}, decays=(0.1,), decay=0.1).decays == (0.1,)
    assert DECAY not in make_space({"fc"}, decays=()).levels()


SPACE = make_space({"conv", "fc"}, kinds=("channel", "unit", "dropblock/3"), decay=1e-5)


@given(st.data())
def test_every_choice_is_a_policy_that_says_the_same(data):
    params = {name: data.draw(st.sampled_from(levels)) for name, levels in SPACE.levels().items()}
    config = SPACE.config(BASE, params)
    assert config.weight_decay == params[DECAY]
    found = {item.site: (item.kind, item.rate, item.argument) for item in Policy.parse(config.dropout).items}
    wanted = {}
    for choice in SPACE.choices:
        if params[choice.site]:
            kind, _, argument = str(params.get(choice.kind_name, "unit")).partition("/")
            wanted[choice.site] = (kind, params[choice.site], int(argument) if argument else None)
    assert found == wanted
    assert SPACE.describe(params) == f"{config.dropout}, weight decay {params[DECAY]:g}"


def test_the_samples_have_every_kind_and_every_site():
    policies = [SPACE.policy(params) for params in SPACE.samples()]
    assert policies == ["conv=channel:0.05,fc=0.05", "conv=0.05,fc=0.05", "conv=dropblock:0.05/3,fc=0.05"]


def test_its_size_is_the_number_of_different_trainings():
    every = [dict(zip(SPACE.levels(), each, strict=True)) for each in product(*SPACE.levels().values())]
    assert len({SPACE.key(params) for params in every}) == SPACE.size < len(every)


def test_references_are_no_dropout_and_the_tutorials():
    assert [name for name, _ in SPACE.references()] == ["none", "fc=0.5"]
    assert [SPACE.policy(params) for _, params in SPACE.references()] == ["none", "fc=0.5"]
    assert {params[DECAY] for _, params in SPACE.references()} == {1e-5}
    outside = make_space({"conv", "fc"}, sites=("conv",))
    assert [params for name, params in outside.references()][1] is None
    other = make_space({"fc"}, kinds=("gaussian", "unit"), decays=())
    assert other.references()[1] == ("fc=0.5", {"fc": 0.5, "fc kind": "unit"})
    assert make_space({"fc"}, kinds=("gaussian",)).references()[1] == ("fc=0.5", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("unit", "chanel")}, "unknown kind of dropout 'chanel'.*Did you mean 'channel'"),
        ({"sites": ("fc", "fc")}, "sites names one twice: fc,fc"),
        ({"sites": ("fc",), "kinds": ("channel",)}, "none of the kinds channel can act at 'fc'"),
        ({"sites": ()}, "no site to search"),
        ({"kinds": ("unit", "unit")}, "kinds names one twice: unit,unit"),
        ({"kinds": ("unit/3",)}, "kind unit takes no number after its rate"),
        ({"kinds": ("concrete",)}, "none of the kinds concrete can act at 'conv'"),
        ({"sites": ("fc=0.5",)}, "sites are names alone, such as conv or fc.0., and got 'fc=0.5'"),
    ],
)
def test_spaces_that_cannot_be_are_refused(options, message):
    with pytest.raises(DropkitError, match=message):
        make_space({"conv", "fc"}, **options)
