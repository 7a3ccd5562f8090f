"""What each misuse that dropkit.check finds does: a small network for each, and the harm that is measured on it.

The digits that scikit-learn carries, fully connected networks, a moment of training each. docs/check.md quotes these
lines; the numbers may differ a little from machine to machine.

Run it: python examples/misuse.py [CODE ...]
"""

import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import dropkit

HIDDEN, STEPS, SEED = 128, 150, 0


def digits():
    """Pixels [1797, 64], standardised by the largest, and labels; every third is held out."""
    data = load_digits()
    pixels, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    held_out = torch.arange(len(labels)) % 3 == 0
    return pixels[~held_out], labels[~held_out], pixels[held_out], labels[held_out]


X, Y, X_TEST, Y_TEST = digits()


def network(*drop, activation=nn.ReLU):
    """One hidden layer; what is given comes after its activation."""
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(64, HIDDEN), activation(), *drop, nn.Linear(HIDDEN, 10))


def trained(model):
    torch.manual_seed(SEED)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.003)
    for _ in range(STEPS):
        batch = torch.randint(len(X), (100,))
        optimizer.zero_grad()
        F.cross_entropy(model(X[batch]), Y[batch]).backward()
        optimizer.step()
    return model


def error(model, inputs=X_TEST, labels=Y_TEST):
    """Share of the held-out digits that are labelled wrongly."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        return (model(inputs).argmax(1) != labels).float().mean().item()


def disagreement(model):
    """Share of the held-out digits that two passes label differently."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        return (model(X_TEST).argmax(1) != model(X_TEST).argmax(1)).float().mean().item()


class Hidden(nn.Module):
    """The same network with its dropout, a function of module and activation, written into forward."""

    def __init__(self, written, **layers):
        super().__init__()
        torch.manual_seed(SEED)
        self.fc1, self.fc2, self.written = nn.Linear(64, HIDDEN), nn.Linear(HIDDEN, 10), written
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.fc2(self.written(self, self.fc1(x).relu()))


class KeepsItsLayerOn(nn.Module):
    """Its eval() stops at itself: the layers within stay in training mode."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def train(self, mode=True):
        self.training = mode
        return self

    def forward(self, x):
        return self.inner(x)


MISUSES = {}


def misuse(function):
    """Register what returns (a network with the misuse or None, the sentence on its harm) under its code."""
    MISUSES[function.__name__.upper()] = function
    return function


@misuse
def dk001():
    model = trained(Hidden(lambda net, h: F.dropout(h, 0.8))).eval()
    right = Hidden(lambda net, h: h)
    right.load_state_dict(model.state_dict())
    errors = error(model), error(right)
    return model, "at p = .8 the test error after eval() is {:.0%}, and {:.0%} with the dropout off".format(*errors)


@misuse
def dk002():
    model = trained(Hidden(lambda net, h: nn.Dropout(0.8)(h))).eval()
    return model, f"at p = .8 two passes after eval() label {disagreement(model):.0%} of the test digits differently"


@misuse
def dk003():
    model = trained(Hidden(lambda net, h: h * (torch.rand_like(h) > 0.8) * 5)).eval()
    return model, f"at p = .8 two passes after eval() label {disagreement(model):.0%} of the test digits differently"


@misuse
def dk004():
    model = trained(KeepsItsLayerOn(network(nn.Dropout(0.8)))).eval()
    wrong, right = error(model), error(model.inner.eval())
    model.inner.train()
    return model, f"at p = .8 the test error after eval() is {wrong:.0%}, and {right:.0%} with the dropout off"


@misuse
def dk005():
    model = network(nn.Dropout(0.5))
    model[2].eval()  # as a validation may leave it
    dropped = (model[:3](X) == 0).float().mean() - (model[:2](X) == 0).float().mean()
    return model, f"the training goes on with {dropped:.0%} of the units dropped in place of 50%"


@misuse
def dk006():
    model = trained(network(nn.Dropout(0.8)))
    errors = error(model), error(model.eval())
    return None, "at p = .8 the test error under no_grad alone is {:.0%}, and {:.0%} after eval()".format(*errors)


@misuse
def dk007():
    """The noise of a gradient averaged over two ranks that hold the same digits."""

    def gradient(seed):
        torch.manual_seed(seed)
        model.zero_grad()
        F.cross_entropy(model(X[:200]), Y[:200]).backward()
        return model[0].weight.grad.clone()

    model = network(nn.Dropout(0.5))
    single = torch.stack([gradient(seed) for seed in range(60)])
    shared, own = single.var(0).sum(), ((single[::2] + single[1::2]) / 2).var(0).sum()
    return (
        None,
        f"the averaged gradient has {shared / own:.0f} times the variance that independent masks give it",
    )


@misuse
def dk008():
    model = Hidden(lambda net, h: h, drop_rate=0.5)
    return model, f"two passes in training mode differ in {disagreement(model):.0%} of the digits: nothing is dropped"


@misuse
def dk010():
    model = trained(network(nn.Dropout(1.0))).eval()
    return model, f"the hidden layer learns nothing: the test error is {error(model):.0%}"


@misuse
def dk011():
    model = network(nn.Dropout(0.5))
    model[2].p = 7
    try:
        model(X)
    except ValueError as failure:
        return model, f"the next pass in training mode raises a ValueError: {failure}"


@misuse
def dk012():
    wrong, right = trained(network(nn.Dropout(0.9))), trained(network(nn.Dropout(0.1)))
    losses = [F.cross_entropy(model.eval()(X_TEST), Y_TEST).item() for model in (wrong, right)]
    return (
        wrong,
        f"after {STEPS} steps the test loss is {losses[0]:.2f}, and {losses[1]:.2f} at the rate 0.1",
    )


@misuse
def dk013():
    model = network(nn.Dropout(0.0))
    return model, f"two passes in training mode differ in {disagreement(model):.0%} of the digits: nothing is dropped"


@misuse
def dk015():
    model = network(nn.Dropout1d(0.5))
    torch.manual_seed(SEED)
    lost = (model[:3](X) == 0).all(1).float().mean()
    return model, f"{lost:.0%} of the samples lose all their units, and the others none"


@misuse
def dk016():
    model = network(nn.AlphaDropout(0.5))
    torch.manual_seed(SEED)
    before = model[:2](X)
    after = model[2](before)
    return model, f"after the ReLU no unit is below 0, after the dropout {(after < 0).float().mean():.0%} of them are"


@misuse
def dk017():
    layer = nn.AlphaDropout(0.5, inplace=True)
    model, x = network(layer, activation=nn.SELU), torch.randn(3, 5)
    return model, f"{'none' if layer(x) is not x else 'all'} of the memory is saved: the result is a new tensor"


@misuse
def dk018():
    """Convolutional: DropBlock is for maps."""
    try:
        from timm.layers import DropBlock2d
    except (ImportError, RuntimeError) as failure:  # torchvision's refusal of another torch is a RuntimeError
        return None, f"timm cannot be imported, so nothing is measured: {failure}"

    def convolutional(blocks):
        torch.manual_seed(SEED)
        maps = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()
        return nn.Sequential(*maps, blocks, nn.Flatten(), nn.Linear(16 * 64, 10))

    wrong, right = (trained(convolutional(kind(0.1, block_size=7))) for kind in (DropBlock2d, dropkit.DropBlock2d))
    torch.manual_seed(SEED)
    dropped = (wrong[3](torch.ones(4000, 1, 8, 8)) == 0).float().mean()
    losses = [F.cross_entropy(model.eval()(X_TEST), Y_TEST).item() for model in (wrong, right)]
    sentence = "timm's layer drops {:.0%} of the units, not 10%: the test loss is {:.2f}, and {:.2f} with dropkit's"
    return wrong.train(), sentence.format(dropped, *losses)


@misuse
def dk019():
    model = Hidden(lambda net, h: net.drop(h.bfloat16()).float(), drop=nn.Dropout(0.1))
    x = torch.randn(2**19, generator=torch.Generator().manual_seed(SEED)).abs().bfloat16()

    def off(layer):
        torch.manual_seed(SEED)
        kept = (y := layer(x)) != 0
        return 0.9 * y[kept].double().sum() / x[kept].double().sum() - 1

    biases = off(model.drop), off(dropkit.Dropout(0.1))
    return model, "what is kept at p = .1 is on average {:.3%} off, and {:.3%} with dropkit's".format(*biases)


@misuse
def dk020():
    torch.manual_seed(SEED)
    model = nn.Sequential(
        nn.Linear(64, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, HIDDEN),
        nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(60):
            model(X)
        deviation = model.eval()[:6](X).std(0).median()
    return (
        model.train(),
        f"after the norm the standard deviation is 1 in training and {deviation:.2f} in evaluation",
    )


@misuse
def dk021():
    wrong, right = trained(network().append(nn.Dropout(0.5))), trained(network())
    losses = [F.cross_entropy(model(X), Y).item() for model in (wrong, right)]
    return wrong, f"the training loss stays at {losses[0]:.1f}, and falls to {losses[1]:.1f} without"


@misuse
def dk022():
    model = Hidden(lambda net, h: (net.drop(h), h)[1], drop=nn.Dropout(0.5))
    return model, f"two passes in training mode differ in {disagreement(model):.0%} of the digits: nothing is dropped"


@misuse
def dk023():
    model = Hidden(lambda net, h: h, drop=nn.Dropout(0.5))
    return model, f"two passes in training mode differ in {disagreement(model):.0%} of the digits: nothing is dropped"


@misuse
def dk024():
    """A backbone that has learned, without its classifier, and a new head."""
    backbone = trained(network(nn.Dropout(0.5)))[:3].append(nn.Linear(HIDDEN, HIDDEN)).requires_grad_(False)
    model = nn.Sequential(backbone, nn.ReLU(), nn.Linear(HIDDEN, 10))
    features = torch.stack([backbone(X) for _ in range(50)])
    noise = (features.var(0).mean() / backbone.eval()(X).var(0).mean()).sqrt()
    return model.train(), f"the features' noise has {noise:.1f} times the standard deviation that tells digits apart"


@misuse
def dk025():
    model = network(nn.Dropout(0.5), nn.Dropout(0.5))
    torch.manual_seed(SEED)
    dropped = (model[2:4](torch.ones(1000, HIDDEN)) == 0).float().mean()
    return model, f"{dropped:.0%} of the units are dropped, not 50%"


@misuse
def dk030():
    model = network(nn.Dropout(0.5, inplace=True))
    try:
        model(X).sum().backward()
    except RuntimeError as failure:
        return model, f"backward raises a RuntimeError: {str(failure).split(': ')[0]}"


@misuse
def dk031():
    """The features are scaled to length 1 without a thought of samples that have lost them all."""
    model = Hidden(lambda net, h: (k := net.drop(h)) / k.norm(dim=1, keepdim=True), drop=nn.Dropout(0.98))
    torch.manual_seed(SEED)
    broken = model(X).isnan().any(1).float().mean()
    return model, f"at p = .98, {broken:.0%} of the samples become NaN"


@misuse
def dk035():
    layer, x = dropkit.Dropout(0.5), torch.ones(1000, HIDDEN)
    model = network(layer, nn.Linear(HIDDEN, HIDDEN), layer)
    torch.manual_seed(SEED)
    fresh = (layer(x) == layer(x)).float().mean()
    with dropkit.keyed(layer, seed=SEED, step=0):
        same = (layer(x) == layer(x)).float().mean()
    return model, f"within keyed the two masks agree on {same:.0%} of the units; independent ones do on {fresh:.0%}"


def main():
    torch.set_num_threads(1)  # networks this small are faster so
    for code in sys.argv[1:] or sorted(MISUSES):
        print(f"{code}  {MISUSES[code]()[1]}")


if __name__ == "__main__":
    main()
