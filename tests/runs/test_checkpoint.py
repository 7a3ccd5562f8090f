"""A checkpoint holds all that a training needs, and nothing but tensors and JSON; a damaged one is not taken."""

import json

import pytest
import torch
from torch import nn

from dropkit.errors import DropkitError
from dropkit.runs import checkpoint
from dropkit.runs.checkpoint import (
    clone_state,
    load_checkpoint,
    previous_of,
    read_checkpoint,
    read_tensors,
    save_checkpoint,
    write_tensors,
)

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


@pytest.fixture
def saved(tmp_path):
    """Save the checkpoints of two steps, one after the other; return their file, and what loads it."""
    path = tmp_path / "checkpoint.safetensors"
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    for number in (1, 2):
        step(model, optimizer, number)
        save_checkpoint(path, model, {}, optimizer, {"epoch": number})

    def load(said=None):
        fresh = network()
        told = [] if said is None else said
        return load_checkpoint(path, fresh, torch.optim.Adam(fresh.parameters()), told.append)[1]["epoch"]

    return path, load


def test_the_one_before_is_kept(saved):
    path, load = saved
    assert load() == 2
    assert json.loads(read_checkpoint(previous_of(path))[1]) == {"epoch": 1}
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "checkpoint.previous.safetensors",
        "checkpoint.safetensors",
    ]


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"", lambda content: b"rubbish" * 99])
def test_a_damaged_one_is_seen_and_the_one_before_taken(saved, damage):
    path, load = saved
    path.write_bytes(damage(path.read_bytes()))
    said = []
    assert load(said) == 1
    assert len(said) == 1
    assert "checkpoint.safetensors is damaged" in said[0]
    assert "going on from the checkpoint before it" in said[0]
    assert load() == 1  # again, now that the damaged one is gone


def test_a_bit_that_flips_in_the_progress_is_seen(saved):
    path, _ = saved
    content = path.read_bytes()
    place = content.index(b'epoch\\": 2')
    path.write_bytes(content[:place] + content[place:].replace(b": 2", b": 7", 1))
    with pytest.raises(DropkitError, match="its checksum is another one"):
        read_checkpoint(path)


def test_both_damaged_is_an_error_that_says_what_to_do(saved):
    path, load = saved
    for file in (path, previous_of(path)):
        file.write_bytes(cut(file.read_bytes()))
    with pytest.raises(
        DropkitError, match="damaged .+, and there is no whole one before it: delete both, checkpoint.sa"
    ):
        load()


def test_one_of_a_later_version_is_named_and_not_taken_for_damage(saved, monkeypatch):
    path, load = saved
    model = network()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 3)
        save_checkpoint(path, model, {}, torch.optim.Adam(model.parameters()), {"epoch": 3})
    with pytest.raises(DropkitError, match=r"later version of dropkit \(checkpoint version 3, known are up to 2\)"):
        load()
    assert path.is_file()


def test_one_of_the_first_version_is_taken(saved):
    path, load = saved
    tensors, meta = read_tensors(path)
    write_tensors(path, tensors, {"progress": meta["progress"]})
    assert load() == 2


def test_tensors_that_are_no_checkpoint(saved):
    path, load = saved
    write_tensors(path, {"a": torch.zeros(3)})
    assert load() == 1


def test_a_file_system_without_links(saved, monkeypatch):
    path, load = saved

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    model = network()
    save_checkpoint(path, model, {}, torch.optim.Adam(model.parameters()), {"epoch": 3})
    assert load() == 3
    assert json.loads(read_checkpoint(previous_of(path))[1]) == {"epoch": 2}
    assert len(list(path.parent.iterdir())) == 2
