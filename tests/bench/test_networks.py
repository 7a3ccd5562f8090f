import torch
from torch import nn

import dropkit
from dropkit.bench import networks
from dropkit.bench.networks import AFTER, BEFORE, NONE, network_cases


def test_every_step_trains():
    cases = list(network_cases(0.1, "cpu", batch=2))
    assert len(cases) == 6
    for case in cases:
        assert next(iter(case.calls)) == NONE
        assert {"torch.nn.Dropout", "dropkit.Dropout"} < set(case.calls)
        for step in case.calls.values():
            step()


def test_networks_differ_in_their_dropout_alone(monkeypatch):
    built = {}
    monkeypatch.setattr(networks, "_step", lambda network, x, y, memory_format: network)
    for case in network_cases(0.1, "cpu", batch=1):
        built[case.network, case.memory_format] = case.calls
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    for place in (BEFORE, AFTER):
        kinds = built[place, "contiguous"]
        outputs = [network.eval()(x) for name, network in kinds.items() if not name.startswith("x *")]
        assert all(torch.equal(outputs[0], other) for other in outputs[1:])
    layers = [type(layer) for layer in built[BEFORE, "contiguous"]["dropkit.Dropout"]]
    at = layers.index(dropkit.Dropout)
    assert layers[at - 1 : at + 2] == [nn.ReLU, dropkit.Dropout, nn.MaxPool2d]
    layers = [type(layer) for layer in built[AFTER, "contiguous"]["torch.nn.Dropout"]]
    assert layers[layers.index(nn.Dropout) - 1] is nn.MaxPool2d
