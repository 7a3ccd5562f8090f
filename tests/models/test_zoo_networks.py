"""Networks of timm and torchvision, and of the user's own: built for any picture, refused with a cure."""

import importlib

import pytest
import torch
from torch import nn

from dropkit.errors import DropkitError
from dropkit.models import zoo
from dropkit.models.head import FrozenNetwork, Head, require_head_policy
from dropkit.models.networks import build, build_backbone, build_finetuned
from dropkit.models.policy import Policy
from dropkit.models.surgery import insert

pytestmark = pytest.mark.filterwarnings("ignore:.*torch:UserWarning:timm")  # of timm's own interpolation


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("timm:test_resnet", (1, 11, 13)),
        ("timm:test_vit", (1, 32, 48)),
        ("timm:test_efficientnet", (3, 17, 19)),
        ("torchvision:squeezenet1_0", (1, 29, 31)),
        ("torchvision:shufflenet_v2_x0_5", (3, 17, 19)),
    ],
)
def test_a_librarys_network_takes_these_pictures_under_its_own_names(libraries, name, shape):
    timm, torchvision = libraries
    net = build(name, input_shape=shape, num_classes=7)
    assert net.training
    assert net(torch.randn(3, *shape)).shape == (3, 7)
    library, _, plain = name.partition(":")
    plain_net = timm.create_model(plain) if library == "timm" else torchvision.models.get_model(plain)
    assert list(net.state_dict()) == list(plain_net.state_dict())


def test_a_grey_picture_is_seen_as_if_it_were_repeated_in_three_colours(libraries):
    nets = []
    for channels in (1, 3):
        torch.manual_seed(3)
        nets.append(build("torchvision:squeezenet1_0", input_shape=(channels, 33, 35), num_classes=5).eval())
    x = torch.randn(2, 1, 33, 35)
    assert nets[0].features[0].weight.shape[1] == 1
    torch.testing.assert_close(nets[0].features(x), nets[1].features(x.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(nets[0].features[0].weight, nets[1].features[0].weight.sum(1, keepdim=True))


def test_classifiers_halfway_are_left_out(libraries):
    net = build("torchvision:googlenet", input_shape=(3, 64, 64), num_classes=5)
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 5)  # in training it would be a tuple of three
    assert not [key for key in net.state_dict() if "aux" in key]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("timm:test_resnett", "timm:test_resnet"), ("torchvision:squeezenet1_2", "torchvision:squeezenet1_0")],
)
def test_an_unknown_name_shows_a_few_that_are_near(libraries, name, nearest):
    with pytest.raises(DropkitError, match=f"unknown model {name!r}: .* others. The nearest are .*{nearest}") as raised:
        build(name, input_shape=(3, 32, 32), num_classes=5)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("name", "shape", "own"),
    [
        ("torchvision:alexnet", (3, 8, 8), 224),
        ("timm:test_vit", (1, 9, 9), 160),
        ("torchvision:vit_b_32", (3, 40, 40), 224),
    ],
)
def test_pictures_of_a_wrong_size_are_refused_with_the_networks_own(libraries, name, shape, own):
    with pytest.raises(DropkitError, match=f"model {name!r} cannot .*--image-size {own}"):
        build(name, input_shape=shape, num_classes=5)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_library_names_its_extra(monkeypatch, library):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DropkitError, match=r"--model \w+:NAME needs packages .*dropkit\[zoo\]"):
        build(f"{library}:resnet18", input_shape=(3, 32, 32), num_classes=5)


def test_a_torchvision_of_another_torch_is_told_as_such(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(DropkitError, match="does not belong to the torch .*torchvision::nms.*install the two together"):
        build("timm:resnet18", input_shape=(3, 32, 32), num_classes=5)


# The user's own

OWN = """
import torch
from torch import nn

def both(input_shape, num_classes):
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))

def classes_alone(*, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

def fixed():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))

def anything(**options):
    return both(**options)

class Net(nn.Sequential):
    def __init__(self, num_classes, depth=2):
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))

def needs_more(num_classes, depth):
    return None

def fails(num_classes):
    raise KeyError("depth")

def nothing(num_classes):
    pass

def too_few(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes - 1))

def too_small(num_classes):
    return nn.Sequential(nn.Conv2d(1, 2, 99), nn.Flatten(), nn.LazyLinear(num_classes))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py"


@pytest.mark.parametrize("function", ["both", "classes_alone", "fixed", "anything", "Net"])
def test_a_function_is_called_with_what_it_takes(own, function):
    net = build(f"{own}:{function}", input_shape=(1, 7, 11), num_classes=5)
    assert net(torch.zeros(3, 1, 7, 11)).shape == (3, 5)
    assert net.training


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("needs_more", "needs the argument 'depth'.*called as function\\(input_shape=\\(C, H, W\\), num_classes=K\\)"),
        ("fails", r"raised KeyError: 'depth' \(.*own.py, line 26\)"),
        ("nothing", "returned NoneType, but a network is needed: return a torch.nn.Module"),
        ("too_few", r"returns \[2, 4\] for 2 pictures of 5 classes, but logits \[2, 5\] are needed"),
        ("too_small", "cannot take pictures of 7x11 in grey .*RuntimeError.*another --image-size"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_what_is_no_network_for_these_pictures_is_a_message(own, function, message):
    with pytest.raises(DropkitError, match=message):
        build(f"{own}:{function}", input_shape=(1, 7, 11), num_classes=5)


# Published weights


def test_what_the_weights_expect_is_known_without_a_download(libraries):
    assert zoo.preprocessing("torchvision:resnet18").size == (224, 224)
    assert zoo.preprocessing("torchvision:resnet18").mean == (0.485, 0.456, 0.406)
    assert zoo.preprocessing("timm:test_resnet") == zoo.Preprocessing((160, 160), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(DropkitError, match="timm knows no trained weights for 'timm:resnet10t_absent|unknown model"):
        zoo.preprocessing("timm:resnet10t_absent")
    with pytest.raises(DropkitError, match="timm knows no trained weights for 'timm:efficientnet_b6'.*list_pretrained"):
        zoo.preprocessing("timm:efficientnet_b6")


def test_weights_that_cannot_be_downloaded_are_a_message(libraries, monkeypatch):
    timm, torchvision = libraries

    def unreachable(*args, **kwargs):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(torchvision.models, "get_model", unreachable)
    with pytest.raises(DropkitError, match=r"timm could not get .*\(OSError: no route to host\): .*Hugging Face cache"):
        zoo.pretrained_weights("timm:test_resnet")
    with pytest.raises(DropkitError, match=r"torchvision could not get .*connect to the internet.*TORCH_HOME"):
        zoo.pretrained_weights("torchvision:squeezenet1_0")


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("timm:test_resnet", "fc"),
        ("timm:test_vit", "head"),
        ("torchvision:squeezenet1_0", "classifier.1"),
    ],
)
def test_all_but_the_classifier_is_kept(published, name, classifier):
    shape = (3, 64, 64)
    kept, _ = zoo.pretrained_weights(name)
    zoo.set_size(kept, name, shape[1:])
    tuned = build_finetuned(name, input_shape=shape, num_classes=7)
    assert zoo.classifier_paths(tuned, name) == (classifier,)
    before, after = kept.state_dict(), tuned.state_dict()
    assert list(before) == list(after)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"{classifier}.weight", f"{classifier}.bias"}
    x = torch.randn(2, *shape)
    assert tuned(x).shape == (2, 7)
    backbone = build_backbone(name, input_shape=shape)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    features = []
    kept.eval().get_submodule(classifier).register_forward_pre_hook(lambda module, args: features.append(args[0]))
    kept(x)
    if classifier == "classifier.1":  # a convolution: what it reads is pooled after it
        features = [features[0].relu().mean((2, 3))]
    torch.testing.assert_close(backbone(x), features[0])


def test_nothing_is_asked_for_where_other_weights_are_to_be_loaded(published):
    tuned = build_finetuned("timm:test_vit", input_shape=(3, 64, 64), num_classes=7)
    assert published == ["timm:test_vit"]
    again = build_finetuned("timm:test_vit", input_shape=(3, 64, 64), num_classes=7, download=False)
    again.load_state_dict(tuned.state_dict())
    assert published == ["timm:test_vit"]


# The head


def test_the_head_drops_its_input_and_the_rest_stays_frozen():
    torch.manual_seed(2)
    head = Head(13, 5)
    insert(head, Policy.parse("fc=0.5"))
    net = FrozenNetwork(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(13), nn.Dropout(0.9)), head).train()
    seen = []
    head.fc.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    x = torch.rand(7, 13, 1, 1) + 1
    net(x)
    dropped = seen[0] == 0
    assert 20 < int(dropped.sum()) < 71  # 91 fair coins: outside with a probability below 1e-7
    torch.testing.assert_close(seen[0][~dropped], 2 * net.backbone(x)[~dropped])
    assert int(net.backbone[1].num_batches_tracked) == 0
    assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == {
        "head.fc.weight",
        "head.fc.bias",
    }


@pytest.mark.parametrize("text", ["conv=0.1", "fc=0.5,input=0.1", "layer4.*=0.2"])
def test_a_policy_beyond_the_head_is_refused(text):
    with pytest.raises(DropkitError, match="is not in the head, .*only the head is trained.*with --finetune"):
        require_head_policy(Policy.parse(text))


@pytest.mark.parametrize("text", ["none", "model", "head=0.5", "fc=gaussian:0.3", "head[0]=0.1"])
def test_a_policy_of_the_head_is_taken(text):
    require_head_policy(Policy.parse(text))
