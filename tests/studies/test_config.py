"""What a comparison is told."""

import pytest

from dropkit.errors import DropkitError
from dropkit.models.networks import NETWORKS, build
from dropkit.models.policy import Policy
from dropkit.models.surgery import insert
from dropkit.studies.config import CompareConfig


def test_the_default_policies_suit_every_network():
    for name in NETWORKS:
        configs = CompareConfig(data="digits", model=name).configs()
        assert [config.dropout for config in configs][:2] == ["none", "fc=0.5"]
        for config in configs:
            insert(build(name, input_shape=(1, 8, 8), num_classes=10), Policy.parse(config.dropout))
    assert len(CompareConfig(data="digits").configs()) == 3


def test_every_option_reaches_every_training():
    configs = CompareConfig(data="x", epochs=7, lr=0.5, threads=1, policies=("none", "fc=0.1"), out="study").configs()
    assert {(c.epochs, c.lr, c.threads, c.out) for c in configs} == {(7, 0.5, 1, None)}


def test_policies_may_set_other_options_too():
    configs = CompareConfig(data="x", lr=0.5, policies=("none", "fc=0.1;lr=0.25;weight-decay=1e-3")).configs()
    assert [(c.dropout, c.lr, c.weight_decay) for c in configs] == [("none", 0.5, 0.0), ("fc=0.1", 0.25, 1e-3)]


def test_a_sweep_makes_the_policies():
    configs = CompareConfig(data="x", sweep="fc=0:0.5:0.25", epochs=3).configs()
    assert [(c.dropout, c.epochs) for c in configs] == [("fc=0", 3), ("fc=0.25", 3), ("fc=0.5", 3)]
    with pytest.raises(DropkitError, match="either policies or a sweep, not both"):
        CompareConfig(data="x", sweep="fc=0:0.5:0.25", policies=("none", "fc=0.5"))
