import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import dropkit.layers as L

LAYERS = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


def error(call):
    """Type and text of what the call raises."""
    try:
        call()
    except Exception as raised:
        return type(raised), str(raised)
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("p", [-0.1, 1.5, 7, float("inf"), "half", None, [0.5]])
def test_refuses_p_as_torch_does(name, p):
    theirs = error(lambda: getattr(nn, name)(p))
    assert error(lambda: getattr(L, name)(p)) == theirs
    layer = getattr(L, name)(0.25)
    assert error(lambda: setattr(layer, "p", p)) == theirs
    assert layer.p == 0.25


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("p", [True, False, np.True_, float("nan")])
def test_refuses_what_torch_lets_through(name, p):
    text = f"dropout probability has to be between 0 and 1, but got {p}"
    assert error(lambda: getattr(L, name)(p)) == (ValueError, text)
    assert error(lambda: setattr(getattr(L, name)(), "p", p)) == (ValueError, text)


@pytest.mark.parametrize("name", LAYERS)
def test_constructor_and_attributes_as_torch(name):
    ours, theirs = getattr(L, name), getattr(nn, name)
    for arguments in ((), (0.25,), (0.5, True)):
        mine, other = ours(*arguments), theirs(*arguments)
        assert (mine.p, mine.inplace, mine.training) == (other.p, other.inplace, other.training)
        assert repr(mine) == repr(other)
    assert ours(p=0.1, inplace=True).inplace


@pytest.mark.parametrize("p", [0, 1, np.float32(0.5), torch.tensor(0.5)])
def test_p_is_kept_as_a_float(p):
    layer = L.Dropout(p)
    assert type(layer.p) is float
    layer.p = p
    assert type(layer.p) is float
    assert layer.p == p


@pytest.mark.parametrize("name", LAYERS)
def test_there_is_no_state(name):
    layer = getattr(L, name)()
    with L.keyed(layer, seed=1, step=2):
        assert layer.state_dict() == {}
        assert list(layer.buffers()) == []
    layer.load_state_dict(getattr(nn, name)().state_dict())


def saved_and_loaded(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), saved_and_loaded]
)
def test_a_copy_has_the_settings_and_no_key(copied):
    layer = L.Dropout(0.3, inplace=True, convention="weight-scaling").eval()
    with L.keyed(layer, seed=1, step=2):
        twin = copied(layer)
        assert layer.key is not None
    assert repr(twin) == repr(layer)
    assert not twin.training
    assert twin.key is None
    twin.p = 0.7
    assert layer.p == 0.3


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused_with_what_to_do(layout):
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)
    with pytest.raises(NotImplementedError, match="takes no nested tensors: give it the parts, or a padded tensor"):
        L.Dropout(0.5)(nested)
