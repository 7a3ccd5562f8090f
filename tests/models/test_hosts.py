"""What hangs on a host acts there, follows its mode, is copied with it, and comes off without a trace."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models import hosts
from dropkit.models.surgery import convert, insert, remove, set_rate


class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 11, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(11 * 4, 31), nn.Linear(31, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(-1, 44))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv1, self.relu = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()
        self.conv2, self.fc = nn.Conv2d(5, 3, 3, padding=1), nn.Linear(3 * 64, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.conv2(self.relu(self.conv1(x)))).flatten(1))


X = torch.randn(97, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def built(kind):
    torch.manual_seed(3)
    return kind()


def reads(net, path, x=X, plain=False):
    """What a layer's forward gets, behind all hooks; of the network without dropout if `plain`."""
    seen = {}
    layer = net.get_submodule(path)
    forward = type(layer).forward
    layer.forward = lambda value: seen.update(value=value) or forward(layer, value)
    mode = net.training
    with torch.no_grad():
        net.train(not plain)(x)
    net.train(mode)
    del layer.forward
    return seen["value"]


def assert_fraction(zeros, n, p):
    assert 0 < zeros < n
    assert abs(zeros - n * p) < 5 * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize(
    ("kind", "policy", "reader"),
    [
        (Tutorial, "input=0.25", "conv1"),
        (Tutorial, "conv[0]=0.25", "conv2"),
        (Tutorial, "conv[1]=0.25", "fc1"),
        (Tutorial, "fc=0.25", "fc2"),
        (Block, "conv[1]=0.25", "conv2"),
        (Block, "conv@act=0.25", "conv2"),
        (Block, "relu=0.25", "conv2"),
    ],
)
def test_the_reader_reads_the_thinned_activation(kind, policy, reader):
    net = built(kind)
    if policy == "conv@act=0.25":
        policy = "conv[1]@act=0.25"
    insert(net, policy, X)
    thinned, whole = reads(net, reader), reads(net, reader, plain=True)
    alive = whole != 0
    dropped = alive & (thinned == 0)
    assert_fraction(int(dropped.sum()), int(alive.sum()), 0.25)
    torch.testing.assert_close(thinned[alive & ~dropped], whole[alive & ~dropped] / 0.75)
    assert torch.equal(reads(built(kind), reader, plain=True), whole)


def test_whole_maps_are_dropped_where_functional_code_has_flattened_them():
    net = built(Tutorial)
    insert(net, "conv[1]=channel:0.25", X)
    thinned, whole = (reads(net, "fc1", plain=plain).unflatten(1, (11, 4)) for plain in (False, True))
    alive = (whole != 0).any(2)
    dropped = alive & (thinned == 0).all(2)
    assert_fraction(int(dropped.sum()), int(alive.sum()), 0.25)
    torch.testing.assert_close(thinned[alive & ~dropped], whole[alive & ~dropped] / 0.75)


@pytest.mark.parametrize("kind", ["dropblock:0.3/1", "concrete:0.3", "feature-alpha:0.3"])
def test_kinds_for_maps_act_on_flattened_maps(kind):
    net = built(Tutorial)
    insert(net, f"conv[1]={kind}", X)
    net(X).sum().backward()
    assert torch.equal(net.eval()(X), built(Tutorial).eval()(X))


def test_a_branch_is_dropped_for_whole_samples():
    net = built(Block)
    insert(net, "path=0.25", X)
    with dropkit.keyed(net, seed=1, step=0), torch.no_grad():
        branch = net.relu(net.conv1(net.stem(X)))
        branch = net.conv2(branch)
    whole = built(Block)
    expected = whole.conv2(whole.relu(whole.conv1(whole.stem(X)))).detach()
    dropped = (branch == 0).flatten(1).all(1)
    assert_fraction(int(dropped.sum()), 97, 0.25)
    torch.testing.assert_close(branch[~dropped], expected[~dropped] / 0.75)


POLICIES = {
    Tutorial: "input=0.2,conv=channel:0.3,fc=0.5",
    Block: "input=0.2,conv=0.3,path=0.5",
}


@pytest.mark.parametrize("kind", POLICIES)
def test_the_layer_has_its_host_s_mode(kind):
    net, x = built(kind), X[:7]
    net.eval()
    insert(net, POLICIES[kind], x)
    assert not any(layer.training for _, _, layer, _ in hosts.hanging(net))
    assert torch.equal(net(x), built(kind).eval()(x))
    net.train()
    assert all(layer.training for _, _, layer, _ in hosts.hanging(net))
    assert not torch.equal(net(x), built(kind)(x))
    for _, host, _, _ in hosts.hanging(net):
        host.eval()  # of each host alone
    assert torch.equal(net(x), built(kind)(x))


@pytest.mark.parametrize("kind", POLICIES)
def test_keyed_masks_repeat_and_differ_by_site(kind):
    net, x = built(kind), torch.ones(1, 1000)
    insert(net, POLICIES[kind].replace("channel:", ""), X)
    layers = [layer for _, _, layer, _ in hosts.hanging(net)]
    set_rate(net, 0.5)
    with dropkit.keyed(net, seed=1, step=2):
        first, again = net(X), net(X)
        masks = [tuple(layer(x if type(layer).__name__ == "Dropout" else x.T).flatten().tolist()) for layer in layers]
    with dropkit.keyed(net, seed=1, step=3):
        other = net(X)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(set(masks)) == len(layers) > 2


@pytest.mark.parametrize("kind", POLICIES)
def test_gradients_flow_and_an_older_optimizer_trains(kind):
    net = built(kind)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    parameters = list(net.parameters())
    insert(net, POLICIES[kind], X)
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    before = [parameter.detach().clone() for parameter in parameters]
    net(X).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


@pytest.mark.parametrize("policy", ["conv[1]=connect:0.3", "fc=connect:0.3,conv[0]=0.1"])
def test_dropped_weights_are_the_layer_s_own(policy):
    net = built(Tutorial)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    parameters, keys = dict(net.named_parameters()), list(net.state_dict())
    net.fc1.weight.requires_grad_(False)
    insert(net, policy, X)
    assert dict(net.named_parameters()) == parameters
    assert list(net.state_dict()) == keys
    assert not net.fc1.weight.requires_grad
    net(X).sum().backward()
    optimizer.step()
    remove(net)
    assert [type(layer) for layer in net.children()] == [nn.Conv2d, nn.Conv2d, nn.Linear, nn.Linear]
    assert dict(net.named_parameters()) == parameters


def test_old_checkpoints_fit_both_ways():
    net, old = built(Block), built(Block)
    insert(net, POLICIES[Block], X)
    assert list(net.state_dict()) == list(old.state_dict())
    net.load_state_dict(old.state_dict(), strict=True)
    old.load_state_dict(net.state_dict(), strict=True)


def test_the_user_s_hooks_fire_once_and_see_what_comes_before_the_layer():
    net, fired = built(Block), []
    handles = [
        net.relu.register_forward_hook(lambda module, args, output: fired.append(("after", output))),
        net.conv1.register_forward_pre_hook(lambda module, args: fired.append(("before", args[0]))),
        net.relu.register_full_backward_hook(lambda *_: fired.append(("back", None))),
    ]
    insert(net, "conv=0.5", X)
    fired.clear()
    net(X).sum().backward()
    assert [when for when, _ in fired] == ["before", "after", "back"]
    assert (fired[1][1] == 0).float().mean() < 0.6  # a ReLU's zeros: half of them, not three quarters
    remove(net)
    for handle in handles:
        handle.remove()
    assert not net.relu._forward_hooks


def saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved])
@pytest.mark.parametrize(
    "policy", ["input=0.2,conv=0.3,path=0.5", "conv=connect:0.3", "conv[0]=concrete:0.3", "conv=gaussian:0.1"]
)
def test_a_copy_is_whole_and_independent(copied, policy):
    net = built(Block)
    insert(net, policy, X)
    twin = copied(net)
    with dropkit.keyed(net, seed=1, step=0), dropkit.keyed(twin, seed=1, step=0):
        assert torch.equal(net(X), twin(X))
        if "concrete" not in policy:
            set_rate(twin, 0.0)
            assert torch.equal(twin(X), built(Block)(X))
            assert not torch.equal(net(X), twin(X))
    remove(twin)
    assert torch.equal(twin(X), built(Block)(X))
    assert not hosts.is_changed(twin)
    assert hosts.is_changed(net)


def test_a_layer_whose_hook_was_cleared_can_still_be_removed():
    net = built(Block)
    insert(net, "relu=0.5", X)
    net.relu._forward_hooks.clear()
    remove(net)
    assert not list(net.relu.children())


def test_a_name_that_the_network_uses_itself():
    net = built(Block)
    net.relu.site_dropout = 7
    with pytest.raises(DropkitError, match="under the name 'site_dropout', which it has already got: rename"):
        insert(net, "input=0.1,relu=0.5", X)
    assert net.relu.site_dropout == 7
    assert not hosts.is_changed(net)


def test_a_module_that_returns_no_tensor():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = nn.LSTM(3, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc(self.lstm(x)[0])

    net = Net()
    insert(net, "lstm=0.5")
    with pytest.raises(DropkitError, match="at a LSTM, but that returns a tuple, no tensor: name another module"):
        net(torch.ones(7, 3, 3))


@pytest.mark.parametrize("become", [lambda net: insert(net, "0=0.3"), convert])
def test_a_layer_that_is_turned_stays_the_same_object(become):
    layer = nn.Dropout(0.5)
    layer.note, fired = "mine", []
    layer.register_forward_hook(lambda *_: fired.append(1))
    net = nn.Sequential(layer, nn.Linear(3, 3), layer)
    become(net)
    assert net[0] is layer is net[2]
    assert type(layer) is dropkit.Dropout
    assert layer.note == "mine"
    net(torch.ones(5, 3))
    assert fired == [1, 1]
    remove(net)
    assert type(layer) is nn.Dropout
    assert (layer.p, layer.note) == (0.5, "mine")
