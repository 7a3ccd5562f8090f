"""Surgery and check on real classifiers: six of them always, eighty with `make test-zoo`.

Their weights are random: what is tested does not depend on them.
"""

import os

import pytest
import torch

from dropkit.layers.base import DropLayer
from dropkit.models.check.check import check
from dropkit.models.surgery import insert, remove, sites

TORCHVISION = """
    alexnet vgg11 vgg13 vgg16_bn vgg19 resnet18 resnet34 resnet50 resnet101 resnext50_32x4d wide_resnet50_2 densenet121
    densenet161 squeezenet1_0 squeezenet1_1 googlenet inception_v3 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large
    shufflenet_v2_x0_5 shufflenet_v2_x1_0 mnasnet0_5 mnasnet0_75 mnasnet1_0 efficientnet_b0 efficientnet_b1
    efficientnet_b2 efficientnet_v2_s regnet_y_400mf regnet_y_800mf regnet_x_400mf regnet_x_800mf convnext_tiny
    convnext_small vit_b_16 vit_b_32 swin_t swin_v2_t maxvit_t
""".split()  # noqa: SIM905 - forty names read best in a row
TIMM = """
    resnet10t resnet18 resnet26d resnet50 resnetv2_50 seresnet50 ecaresnet50t res2net50_14w_8s resnest14d densenet121
    vgg11_bn efficientnet_b0 efficientnet_lite0 tf_efficientnetv2_b0 mobilenetv2_050 mobilenetv3_small_050
    mobilenetv4_conv_small mnasnet_small ghostnet_050 ghostnetv2_100 regnetx_002 regnety_002 convnext_atto
    convnextv2_atto edgenext_xx_small mobilevit_xxs mobileone_s0 repvgg_a0 nf_resnet26 xception41 inception_v4 dla34
    hrnet_w18_small vit_tiny_patch16_224 deit_tiny_patch16_224 swin_tiny_patch4_window7_224 mixer_s32_224
    poolformer_s12 cspresnet50 rexnet_100
""".split()  # noqa: SIM905 - forty names read best in a row
ALL = [f"torchvision:{name}" for name in TORCHVISION] + [f"timm:{name}" for name in TIMM]
# Residual, plain, concatenating; timm's residual blocks, squeeze and excitation, attention.
SOME = [
    *("torchvision:resnet18", "torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5"),
    *("timm:resnet10t", "timm:mobilenetv3_small_050", "timm:test_vit"),
]
WHOLE = os.environ.get("DROPKIT_ZOO") == "all"
CHOSEN = ALL if WHOLE else SOME


def build(name, libraries):
    """Return a network, and an example of its input."""
    library, _, kind = name.partition(":")
    timm, torchvision = libraries
    torch.manual_seed(0)
    if library == "timm":
        model = timm.create_model(kind, num_classes=10)
        side = model.pretrained_cfg["input_size"][-1]
    else:
        auxiliary = {"aux_logits": False, "init_weights": False} if kind in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(kind, weights=None, num_classes=10, **auxiliary)
        side = 299 if kind == "inception_v3" else 224
    side = side if WHOLE or kind == "test_vit" else 64
    return model, torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def anatomy(model):
    """Return all that surgery could leave changed: classes, attributes, modes, hooks, children, parameters."""

    def plain(value):
        return list(value.items()) if isinstance(value, dict) else value

    return {
        path: (type(module), {name: plain(value) for name, value in vars(module).items()})
        for path, module in model.named_modules()
    }


def same_anatomy(one, other):
    return one.keys() == other.keys() and all(
        one[path][0] is other[path][0]
        and one[path][1].keys() == other[path][1].keys()
        and all(_same(one[path][1][name], other[path][1][name]) for name in one[path][1])
        for path in one
    )


def _same(one, other):
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return one is other or (not isinstance(one, torch.Tensor) and one == other)


@pytest.fixture
def zoo_network(request, libraries):
    return build(request.param, libraries)


@pytest.mark.filterwarnings("ignore")  # what the libraries warn of is theirs
@pytest.mark.parametrize("zoo_network", CHOSEN, indirect=True)
def test_dropout_goes_in_works_and_comes_out_again(zoo_network):
    model, x = zoo_network
    with torch.no_grad():
        before = model.eval()(x)
    model.train()
    built, keys = anatomy(model), list(model.state_dict())
    found = sites(model, x)
    assert same_anatomy(anatomy(model), built)
    roles = {site.role for site in found}
    assert {"input"} < roles
    assert roles & {"head", "fc"} or found[-1].role == "conv"
    assert [site.index for site in found if site.role == "conv"] == list(range(sum(s.role == "conv" for s in found)))

    changes = insert(model, ",".join(f"{role}=0.1" for role in sorted(roles)), x)
    assert len(changes) >= len(found)
    assert list(model.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(model.eval()(x), before)
    live = {module for module in model.modules() if isinstance(module, DropLayer) and module.p > 0}
    assert len(live) == len(found)
    acted, statistics = set(), [buffer.clone() for buffer in model.buffers()]
    handles = [layer.register_forward_hook(lambda layer, args, output: acted.add(layer)) for layer in live]
    torch.manual_seed(0)
    output = model.train()(x)
    output.sum().backward()
    assert acted == live
    assert output.isfinite().all()
    assert all(p.grad is not None for p in list(model.parameters())[:1])
    for handle in handles:
        handle.remove()

    remove(model)
    assert same_anatomy(anatomy(model), built)
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(value)
        assert torch.equal(model.eval()(x), before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zoo_network", CHOSEN, indirect=True)
def test_the_check_finds_no_misuse_in_what_the_libraries_give(zoo_network):
    """Nothing but notes: that the rates of a network's dropout are all 0 is how timm builds most of its own."""
    model, x = zoo_network
    findings = check(model.train(), x)
    assert {finding.code for finding in findings} <= {"DK013"}, list(map(str, findings))
