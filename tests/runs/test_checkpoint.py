"""A checkpoint holds all that a training needs, and nothing but tensors and JSON."""

import pytest
import torch
from torch import nn

from dropkit.errors import DropkitError
from dropkit.runs.checkpoint import clone_state, load_checkpoint, read_tensors, save_checkpoint, write_tensors

FAMILIES = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    # These walk parameters and state as they lie in memory: another memory format would pair the wrong elements.
    "fused adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
}


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5 * 3 * 1, 2))
    return model.to(memory_format=torch.channels_last)


def step(model, optimizer, number):
    x = torch.randn(7, 3, 5, 3, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_training_goes_on_to_the_same_bits(tmp_path, family):
    model = network()
    optimizer = FAMILIES[family](model.parameters())
    for number in range(3):
        step(model, optimizer, number)
    best = clone_state(model)
    step(model, optimizer, 3)
    save_checkpoint(tmp_path / "c.safetensors", model, best, optimizer, {"epoch": 4, "best_val_loss": float("inf")})
    resumed = network()
    other = FAMILIES[family](resumed.parameters())
    best_again, progress = load_checkpoint(tmp_path / "c.safetensors", resumed, other)
    for number in (4, 5):
        step(model, optimizer, number)
        step(resumed, other, number)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert all(torch.equal(best[key], best_again[key]) for key in best)
    assert progress == {"epoch": 4, "best_val_loss": float("inf")}


def test_a_clone_does_not_follow_the_model():
    model = network()
    state = clone_state(model)
    step(model, torch.optim.SGD(model.parameters(), lr=1.0), 0)
    assert not torch.equal(state["0.weight"], model.state_dict()["0.weight"])


def test_channels_last_weights_and_shared_storage_are_written(tmp_path):
    weight = torch.randn(3, 5, 7, 2).to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "t.safetensors", {"a": weight, "b": weight[:1]})
    tensors, meta = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(tensors["a"], weight)
    assert torch.equal(tensors["b"], weight[:1])
    assert meta == {}


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DropkitError, match="model.safetensors is damaged"):
        read_tensors(path)
