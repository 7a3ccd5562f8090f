"""What a comparison is told."""

from dropkit.models.networks import NETWORKS, build
from dropkit.models.policy import Policy, apply_policy
from dropkit.studies.config import CompareConfig, study_folder


def test_the_default_policies_suit_every_network():
    for name in NETWORKS:
        configs = CompareConfig(data="digits", model=name).configs()
        assert [config.dropout for config in configs][:2] == ["none", "fc=0.5"]
        for config in configs:
            apply_policy(build(name, input_shape=(1, 8, 8), num_classes=10), Policy.parse(config.dropout))
    assert len(CompareConfig(data="digits").configs()) == 3


def test_every_option_reaches_every_training():
    configs = CompareConfig(data="x", epochs=7, lr=0.5, threads=1, policies=("none", "fc=0.1"), out="study").configs()
    assert {(c.epochs, c.lr, c.threads, c.out) for c in configs} == {(7, 0.5, 1, None)}


def test_the_same_options_find_the_same_folder():
    def folder(**changes):
        return study_folder(
            CompareConfig(data="some/x.npz", **changes).configs(), changes.get("metric", "error"), 0, None
        )

    assert folder() == folder(seeds=9, workers=2)
    assert folder().parent.name == "studies"
    assert len({folder(), folder(metric="nll"), folder(lr=0.1), folder(policies=("none", "fc=0.1"))}) == 4
    assert str(study_folder(CompareConfig(data="x").configs(), "error", 0, "here")) == "here"
