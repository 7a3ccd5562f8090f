"""Surgery as a whole: total, undone exactly, whatever comes before and after it; and what it says."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.models import hosts
from dropkit.models.networks import build
from dropkit.models.surgery import convert, insert, remove, set_rate, sites

X = torch.randn(7, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """A bit of everything: a residual block, own dropout in three forms, functional dropout, batch-norm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.conv1, self.relu, self.conv2 = nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 3, 3, padding=1)
        self.maps = nn.Dropout2d(0.1)
        self.fc1, self.drop, self.fc2 = nn.Linear(12, 11), dropkit.Dropout(0.4), nn.Linear(11, 13)
        self.after, self.fc3, self.p = dropkit.ReLUDropout(0.3), nn.Linear(13, 2), 0.35
        self.again = self.drop

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv2(self.relu(self.conv1(x)))
        x = self.maps(F.max_pool2d(F.relu(x), 4)).flatten(1)
        x = F.dropout(self.drop(F.relu(self.fc1(x))), self.p, self.training)
        return self.fc3(F.dropout(self.after(self.fc2(x)), 0.15, self.training))


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(108, 5), nn.ReLU(),
                         nn.AlphaDropout(0.2), nn.Linear(5, 2))  # fmt: skip


def built(kind):
    torch.manual_seed(3)
    return kind()


def anatomy(model):
    """All that surgery could leave changed, to the attribute: copies of tables, the same tensors and modules.

    But for the key that `dropkit.keyed` remembers in a layer.
    """

    def plain(value):
        if isinstance(value, dict):
            return [(key, plain(part)) for key, part in value.items()]
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and value.numel() < 9:
            return value.tolist()  # a rate's words are made anew
        return value

    return [
        (
            path,
            id(module),
            type(module),
            sorted((name, repr(plain(value))) for name, value in vars(module).items() if name != "_former_key"),
        )
        for path, module in model.named_modules(remove_duplicate=False)
    ]


def acting(net):
    """{path: (class, rate)} of what drops."""
    return {
        path: (type(layer).__name__, round(layer.p, 6))
        for path, layer in net.named_modules()
        if isinstance(layer, DropLayer) and layer.p > 0
    }


ITEMS = [
    *("input=0.1", "conv=0.2", "conv=channel:0.2", "conv[0]@act=0.3", "conv=dropblock:0.1/3", "conv=connect:0.2"),
    *("fc=0.5", "fc=concrete:0.2", "fc=alpha:0.1", "fc[0]=connect:0.5", "conv=concrete:0.1", "fc=gaussian:0.2"),
    *("path=0.3", "relu=0.3", "stem*=0.2", "fc2=0.25", "fc1=connect:0.1", "1=0.2", "6=0.5", "path=unit:0.1", "nix=1"),
]
OPERATIONS = st.one_of(
    st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3).map(lambda items: ("insert", ",".join(items))),
    st.sampled_from(["none", "model"]).map(lambda policy: ("insert", policy)),
    st.sampled_from([0.0, 0.25, 1.0, 2.0, "fc=0.3", "conv=0.3", "*=0.2", "drop=0.6", "2=0.1"]).map(
        lambda rate: ("set_rate", rate)
    ),
    st.just(("convert", None)),
    st.just(("mode", None)),
    st.just(("run", None)),
    st.just(("copy", None)),
)


def perform(net, operation, given):
    """Do one thing to a network; a mistake must leave it as it was."""
    before = anatomy(net)
    try:
        if operation == "insert":
            insert(net, given, X)
        elif operation == "set_rate":
            set_rate(net, given, X)
        elif operation == "convert":
            convert(net)
        elif operation == "mode":
            net.train(not net.training)
        elif operation == "run":
            with torch.no_grad(), dropkit.keyed(net, seed=1, step=0):
                net.eval()(X)
        elif operation == "copy":
            remove(copy.deepcopy(net))
    except DropkitError:
        assert anatomy(net) == before


@pytest.mark.filterwarnings("ignore:keyed does not reach")
@pytest.mark.parametrize("kind", [Mixed, Small])
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=5))
@settings(max_examples=10)
def test_remove_undoes_any_sequence_to_the_attribute(kind, operations):
    net = built(kind)
    start, state = anatomy(net), {key: value.clone() for key, value in net.state_dict().items()}
    for operation, given_ in operations:
        perform(net, operation, given_)
    net.train()
    if hosts.is_changed(net):
        remove(net)
    assert anatomy(net) == start
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.filterwarnings("ignore:keyed does not reach")
@pytest.mark.parametrize("kind", [Mixed, Small])
@given(first=st.sampled_from(ITEMS), second=st.sampled_from(ITEMS))
@settings(max_examples=6)
def test_a_second_insert_is_as_if_it_were_the_only_one(kind, first, second):
    twice, once = built(kind), built(kind)
    perform(twice, "insert", first)
    try:
        changes = insert(once, second, X)
    except DropkitError as error:
        with pytest.raises(DropkitError, match=re.escape(str(error))):
            insert(twice, second, X)
        return
    assert insert(twice, second, X) == changes
    assert acting(twice) == acting(once)
    with dropkit.keyed(once, seed=1, step=0), dropkit.keyed(twice, seed=1, step=0), torch.no_grad():
        assert torch.equal(once(X), twice(X))


@pytest.mark.parametrize("policy", ["none", "conv=0.3", "path=0.3", "fc=0.2,input=0.1"])
def test_a_policy_is_total(policy):
    """Nothing else drops: with all of the policy's layers in eval mode nothing is random."""
    net = built(Mixed)
    insert(net, policy, X)
    for layer in net.modules():
        if hosts.site_of_layer(layer) is not None:
            layer.eval()
    assert torch.equal(net(X), net(X))
    for norm in (net.stem[1], (plain := built(Mixed).eval()).stem[1]):
        norm.eval()
        norm.reset_running_stats()
    assert torch.equal(net(X), plain(X))


def test_where_each_kind_of_own_dropout_goes():
    net = built(Mixed)
    changes = insert(net, "conv=0.2,fc=0.5", X)
    assert list(map(str, changes)) == [
        "maps: Dropout2d(p=0.1, inplace=False) of torch.nn -> Dropout(p=0.2, inplace=False)",
    ] or [change.path for change in changes]
    # conv[2] is behind max-pooling: the network's own layer there becomes dropkit's.
    assert (type(net.maps), net.maps.p) == (dropkit.Dropout, 0.2)
    assert (type(net.drop), net.drop.p) == (dropkit.Dropout, 0.5)
    assert net.again is net.drop
    assert (type(net.after), net.after.p, net.p) == (dropkit.ReLUDropout, 0.0, 0.0)
    assert [change.site for change in changes if change.site] == ["conv[0]", "conv[1]", "conv[2]", "fc[0]", "fc[1]"]


def test_batch_norm_does_not_move_and_modes_stay():
    net = built(Mixed)
    net.stem[1].eval()
    modes = [module.training for module in net.modules()]
    statistics = [buffer.clone() for buffer in net.buffers()]
    insert(net, "conv=0.2", X)
    set_rate(net, 0.1, X)
    remove(net)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), statistics, strict=True))


def test_eval_is_identical_to_the_bit():
    net = built(Mixed)
    insert(net, "input=0.2,conv=channel:0.3,path=0.5,fc=0.4", X)
    assert torch.equal(net.eval()(X), built(Mixed).eval()(X))


@pytest.mark.parametrize("policy", ["fc=concrete:0.2", "conv=concrete:0.2"])
def test_a_learned_rate_says_which_keys_it_adds(policy):
    net = built(Small)
    before = list(net.state_dict())
    changes = insert(net, policy, X)
    added = [key for key in net.state_dict() if key not in before]
    assert added
    assert added == [key for change in changes for key in change.keys]
    assert all(key in str(change) for change in changes for key in change.keys)
    removed = [key for change in remove(net) for key in change.keys]
    assert removed == added
    assert list(net.state_dict()) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    net, x = built(Mixed).to(dtype), X.to(dtype)
    insert(net, "input=0.2,conv=channel:0.3,path=0.5,fc=concrete:0.4", x)
    net(x).sum().backward()
    assert net(x).dtype == dtype


def test_autocast():
    net = built(Mixed)
    insert(net, "conv=0.3,path=0.5,fc=0.4", X)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(X).dtype == torch.bfloat16


def test_a_learned_rate_is_on_the_device_of_the_weights():
    net, x = Small().to("meta"), X.to("meta")
    changes = insert(net, "conv=concrete:0.2,fc=concrete:0.2", x)
    assert len(changes) == 2
    assert all(parameter.is_meta for parameter in net.parameters())
    net(x)


def test_frozen_parameters_stay_frozen():
    net = built(Mixed)
    net.requires_grad_(False)
    insert(net, "conv=connect:0.2,fc=0.3", X)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net(X).grad_fn is None


def test_layers_that_are_given():
    net = built(Small)
    given_ = dropkit.Dropout(0.25, convention="weight-scaling")
    insert(net, {"conv": given_, "fc": nn.Dropout(0.4)}, X)
    assert (net[2].p, net[2].convention, net[6].p) == (0.25, "weight-scaling", 0.4)
    assert type(net[6]) is dropkit.Dropout
    insert(net, {"0": given_, "1": given_}, X)
    assert net[0].site_dropout is not net[1].site_dropout is not given_
    with pytest.raises(DropkitError, match=r"Identity cannot take the place of the network's own Dropout\(p=0.3"):
        insert(net, {"conv": nn.Identity()}, X)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()) for _ in range(3)])
        self.shared = nn.Sequential(nn.Conv2d(2, 2, 1), self.relu, nn.Conv2d(2, 2, 1), self.relu)
        self.dropped = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Dropout(0.5))
        self.empty = nn.Sequential()
        self.conv1, self.conv2 = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.conv2(F.relu(self.conv1(self.empty(self.dropped(self.shared(x))))))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("blocks.1=0.3", {"blocks.1.1.site_dropout": ("Dropout", 0.3)}),
        ("blocks=0.3", None),
        ("blocks.*.1=0.3", {f"blocks.{i}.1.site_dropout": ("Dropout", 0.3) for i in range(3)}),
        ("dropped=0.3", {"dropped.1": ("Dropout", 0.3)}),
        ("empty=0.3", None),
        ("blocks.*=connect:0.3", {f"blocks.{i}.0": ("DropConnect", 0.3) for i in range(3)}),
        ("conv2=connect:0.3", {"conv2": ("DropConnect", 0.3)}),
        ("conv1=0.3", {"conv1.site_dropout": ("Dropout", 0.3)}),
    ],
)
def test_globs_without_an_example(policy, expected):
    net = Nested()
    if expected is None:
        with pytest.raises(DropkitError, match="unknown site in policy"):
            insert(net, policy)
    else:
        insert(net, policy)
        assert acting(net) == expected
        net(X)


def test_a_glob_that_names_what_cannot_be():
    with pytest.raises(
        DropkitError, match="output of 'shared' is that of its last layer, 'shared.3', which .* uses at"
    ):
        insert(Nested(), "shared=0.3")
    with pytest.raises(DropkitError, match="kind 'concrete' learns .*, and conv1 is none: use another kind"):
        insert(Nested(), "conv1=concrete:0.3")
    with pytest.raises(DropkitError, match="DropConnect takes an nn.Linear.*but got ReLU"):
        insert(Nested(), "relu=connect:0.3")


def test_an_index_is_no_glob():
    """conv[1] is the second convolution's output, whatever it is called, and not that of conv1."""
    net = build("cnn", input_shape=(1, 8, 8), num_classes=2)
    net.conv10 = nn.Identity()
    assert [change.path for change in insert(net, "conv[0]=0.3") if change.site] == ["pool1"]
    functional = Nested()
    found = sites(functional, X)
    (site,) = [site for site in found if site.made_by == "conv1"]
    assert site.index > 1
    changes = insert(functional, "conv[1]=0.3", X)
    assert [change.site for change in changes if change.site] == ["conv[1]"]


def test_a_glob_names_branches_or_everything_else():
    net = nn.Sequential(Mixed())
    insert(net, "0.*=0.2", X)
    assert {name for name, _ in acting(net).values()} == {"Dropout"}
    with pytest.raises(DropkitError, match="acts on no residual branch, but path.0. is one: use kind sample"):
        insert(net, "0.conv2=0.2", X)
    insert(net, "0.*=sample:0.2", X)
    assert acting(net) == {"0.conv2.site_dropout": ("DropPath", 0.2)}


@pytest.mark.parametrize(
    ("policy", "changed"),
    [
        (0.125, {"0.1": 0.125, "0.2": 0.125, "0.6": 0.125}),
        (np.float32(0.125), {"0.1": 0.125, "0.2": 0.125, "0.6": 0.125}),
        (0, {"0.1": 0.0, "0.2": 0.0, "0.6": 0.0}),
        ({"fc": 0.1}, {"0.6": 0.1}),
        ("conv[0]=0.1,0.6=0.7", {"0.2": 0.1, "0.6": 0.7}),
        ("0.1=0.1", {"0.1": 0.1}),
        ("0.*=0.6", {"0.1": 0.6, "0.2": 0.6, "0.6": 0.6}),
        ("conv=0.1,conv[0]=0.3", {"0.2": 0.3, "0.1": 0.3}),
    ],
)
def test_rates_by_number_role_index_and_glob(policy, changed):
    net = nn.Sequential(built(Small))
    insert(net, "0.1=0.2,conv=0.4,fc=0.5" if "conv=0.1" not in str(policy) else "conv=0.4", X)
    before = rates(net)
    changes = set_rate(net, policy)
    expected = {**before, **{path: rate for path, rate in changed.items() if path in before}}
    assert rates(net) == pytest.approx(expected)
    assert {change.path for change in changes} == {path for path in expected if expected[path] != before[path]}


def rates(net):
    found = {"0.2": net[0][2].p, "0.6": net[0][6].p}
    if hasattr(net[0][1], "site_dropout"):
        found["0.1"] = net[0][1].site_dropout.p
    return found


def test_roles_are_known_with_an_example_and_by_dropkit_s_networks():
    net = built(Small)
    (change,) = set_rate(net, "fc=0.7", X)
    assert (change.path, net[6].p) == ("6", 0.7)
    net = build("cnn", input_shape=(1, 8, 8), num_classes=2)
    set_rate(net, {"fc": 0.3})
    assert net.dropout.p == 0.3


def test_aliases_are_those_of_the_whole_network():
    """Of one site that is named, it is not the last."""
    net = built(Mixed)
    insert(net, "conv[0]=0.2", X)
    with pytest.raises(DropkitError, match=r"no dropout at 'head'\. There is some at"):
        set_rate(net, "head=0.3")


def test_rates_of_other_libraries(libraries):
    timm, torchvision = libraries
    net = nn.Sequential(timm.layers.DropPath(0.3), torchvision.ops.StochasticDepth(0.3, "row"), nn.Dropout(0.3))
    assert len(set_rate(net, 0.1)) == 3
    assert (net[0].drop_prob, net[1].p, net[2].p) == (0.1, 0.1, 0.1)
    insert(net, "none", X)
    assert (net[0].drop_prob, net[1].p, net[2].p) == (0, 0, 0)
    remove(net)
    assert (net[0].drop_prob, net[1].p, net[2].p) == (0.3, 0.3, 0.3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: set_rate(net, 2.0), "from 0 to 1, but got 2"),
        (lambda net: set_rate(net, float("nan")), "from 0 to 1, but got nan"),
        (lambda net: set_rate(net, True), "a policy is a text such as"),
        (lambda net: set_rate(net, None), "a policy is a text such as"),
        (lambda net: set_rate(net, "fc=channel:0.1", X), "changes rates alone: leave the kind out, or use"),
        (lambda net: set_rate(net, {"fc": nn.Dropout(0.1)}, X), "set_rate changes rates alone"),
        (lambda net: set_rate(net, "nix=0.1"), r"no dropout at 'nix'. There is some at 2, 6\. insert"),
        (lambda net: set_rate(nn.Linear(2, 2), 0.1), "Linear has no dropout whose rate could be set: insert some"),
        (lambda net: remove(net), "nothing was inserted into this Small. Its own dropout is switched"),
        (lambda net: insert(net, "fc=0.5"), "has to run once: give an example input"),
        (lambda net: sites(net), "Small has to run once: give an example input"),
        (lambda net: insert(net, "path=0.5", X), r"unknown site .*'path': allowed are input, conv, fc"),
        (lambda net: insert(net, "head[3]=0.5", X), r"unknown site .*'head\[3\]'"),
        (lambda net: insert(net, {}, X), "a policy is a text such as .*but got {}"),
        (lambda net: insert(net, {"fc": [1]}, X), r"a site maps to a rate, .*but got \[1\]"),
        (lambda net: insert(net, {3: 0.5}), "unknown site .*'3'|^$"),
        (lambda net: insert(nn.ReLU(), "conv=0.5", X), "the network has no site of role 'conv', nor of another one"),
        (lambda net: insert(net, "fc=0.5", X[:, :1]), "cannot run on the example input, a tensor"),
        (lambda net: insert(None, "fc=0.5", X), "a torch.nn.Module is needed, but got NoneType"),
        (lambda net: insert(net, "conv@act=0.5,fc@act=0.5", X), r"only conv sites have .*, fc\[0\] has not"),
        (lambda net: insert(Mixed(), "conv@act=0.5", X), r"no module of its own returns .* of conv\[2\]"),
        (lambda net: insert(net, "fc=channel:0.5", X), r"drops whole feature maps, but fc\[0\] has none"),
    ],
)  # fmt: skip
def test_mistakes_say_what_to_do_and_change_nothing(call, message):
    net = built(Small)
    before = anatomy(net)
    if message.endswith("^$"):
        call(net)
        return
    with pytest.raises(DropkitError, match=message):
        call(net)
    assert anatomy(net) == before


@pytest.mark.parametrize("operation", [lambda net: set_rate(net, 0.1), remove, convert, lambda net: insert(net, "a=1")])
@pytest.mark.parametrize("model", [None, 3, "cnn"])
def test_what_is_no_module_is_refused(operation, model):
    with pytest.raises(DropkitError, match="a torch.nn.Module is needed"):
        operation(model)


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Linear(108, 2)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).flatten(1))


@pytest.mark.parametrize("before", [True, False])
def test_compiled_networks_drop_what_eager_ones_do_and_rates_do_not_recompile(before):
    torch._dynamo.reset()
    net = built(Weights)
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    if before:
        compiled(X)
    insert(compiled, "input=0.1,conv=channel:0.2", X)
    compiled(X)
    counter.clear()
    with dropkit.keyed(net, seed=1, step=0):
        compiled(X)
    counter.clear()
    for step, rate in enumerate((0.25, 0.5, 0.75)):
        set_rate(compiled, rate)
        with dropkit.keyed(net, seed=1, step=step):
            assert torch.equal(compiled(X), net(X))
            assert not torch.equal(compiled(X), built(Weights).eval()(X))
    assert counter.frame_count == 0
    remove(compiled)
    assert torch.equal(compiled.eval()(X), built(Weights).eval()(X))


@pytest.mark.parametrize("strict", [False, True])
def test_the_exported_network_has_no_random_operation(strict):
    net = built(Weights)
    insert(net, "input=0.1,conv=channel:0.2", X)
    exported = torch.export.export(net.eval(), (X,), strict=strict)
    assert not [node for node in exported.graph.nodes if "drop" in str(node.target) or "bernoulli" in str(node.target)]
    assert torch.equal(exported.module()(X), built(Weights).eval()(X))


PARALLEL = """
import json, sys, torch, torch.distributed as dist
from torch import nn
import dropkit
from dropkit.models.surgery import insert, remove, set_rate
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
torch.manual_seed(3)
net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
x = torch.randn(7, 2, 8, 8)
wrapped = nn.parallel.DistributedDataParallel(net)
paths = [change.path for change in insert(wrapped, "input=0.2,conv=0.5", x)]
with dropkit.keyed(wrapped, seed=1, step=0):
    same = torch.equal(wrapped(x), net(x))
    wrapped(x).sum().backward()
set_rate(wrapped, 0.25)
rate = net[1].site_dropout.p
remove(wrapped)
print(json.dumps([paths, same, rate, all(p.grad is not None for p in net.parameters()), len(list(net[1].children()))]))
dist.destroy_process_group()
"""


def test_data_parallel(tmp_path):
    command = [sys.executable, "-c", PARALLEL, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert json.loads(done.stdout.splitlines()[-1]) == [["0", "1"], True, 0.25, True, 0]


def test_a_learned_rate_comes_before_data_parallelism(monkeypatch):
    """DistributedDataParallel averages the gradients of the parameters that it has seen."""

    class Wrapper(nn.parallel.DistributedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)
            self.module = module

    net = built(Small)
    before = anatomy(net)
    with pytest.raises(DropkitError, match="insert it before DistributedDataParallel wraps the network"):
        insert(Wrapper(net), "conv=concrete:0.1", X)
    assert anatomy(net) == before
    insert(Wrapper(net), "conv=0.1", X)


def test_compiled_networks_are_converted():
    torch._dynamo.reset()
    net = built(lambda: nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5)))
    compiled, x = torch.compile(net, backend="eager", fullgraph=True), torch.ones(7, 5)
    compiled(x)
    convert(compiled)
    with dropkit.keyed(net, seed=1, step=0):
        assert torch.equal(compiled(x), net(x))
    remove(compiled)
    assert not torch.equal(compiled(x), compiled(x))
