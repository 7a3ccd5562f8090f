"""What each layer does to a real activation: the pictures of docs/layers.

The activation is that of a convolution stage with learned filters, and anybody can compute it again: pieces of the two
photographs that scikit-learn carries are convolved with the first principal components of their own 7 x 7 patches, and
rectified. The masks are keyed, so the pictures come out the same each time. Dropped is orange, all else is grey.

Run it: python examples/draw_masks.py FOLDER    (needs Pillow 10.1 or newer)
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_image
from torch import nn

import dropkit

CROPS = (("china.jpg", 25, 88), ("flower.jpg", 85, 190), ("china.jpg", 185, 60), ("china.jpg", 190, 400))  # y, x
SIDE, KERNEL, MAPS = 234, 7, 4  # of a crop before it is reduced, of a filter; how many filters
ORANGE, INK, PAPER, GREY = (255, 130, 0), (40, 40, 40), (255, 255, 255), (150, 150, 150)
EDGE, GAP, LABEL = 216, 12, 24  # pixels: of a map on the page, between maps, of a line of text
LEVELS = 24  # of grey


def photographs():
    """Four pieces of two photographs, grey and at a third of their size: [4, 1, 78, 78]."""
    pieces = [load_sample_image(name)[y : y + SIDE, x : x + SIDE].mean(2) for name, y, x in CROPS]
    pictures = F.avg_pool2d(torch.tensor(np.stack(pieces), dtype=torch.float64).unsqueeze(1) / 255, 3)
    return pictures - pictures.mean((2, 3), keepdim=True)


def principal_filters(pictures):
    """The principal components of all 7 x 7 patches as filters, the strongest first: [49, 1, 7, 7]."""
    patches = F.unfold(pictures, KERNEL).transpose(1, 2).flatten(0, 1)
    _, components = torch.linalg.eigh(torch.cov(patches.T))
    filters = components.T.flip(0)
    strongest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
    return (filters * strongest.sign()).view(-1, 1, KERNEL, KERNEL)


def keyed(layer, x, site=0):
    """What the layer makes of x in training; equal sites have equal masks."""
    with dropkit.keyed(layer, seed=11, step=site), torch.no_grad():
        return layer.train()(x)


def dropped(layer, x, site=0):
    """Where the layer drops: an input of ones shows it."""
    return (keyed(layer, torch.ones_like(x), site) == 0).expand_as(x)


class Page:
    """Rows of maps, each under a line of text."""

    def __init__(self):
        self.rows = []

    def row(self, text, maps, top=None, share=None, low=0.0, notes=None):
        """Add maps [4, H, W]: low is black and top white; a share of orange lies over them."""
        maps = maps.double()
        top = maps.flatten(1).quantile(0.995, dim=1) if top is None else top
        grey = ((maps - low) / (torch.as_tensor(top).view(-1, 1, 1) - low)).clamp(0, 1)
        if low == 0:
            grey = grey.sqrt()  # rectified maps are dark
        grey = (grey * LEVELS).round().unsqueeze(-1) / LEVELS * 255
        share = torch.zeros_like(maps) if share is None else share.double()
        share = (share * LEVELS).round().unsqueeze(-1) / LEVELS
        colours = grey * (1 - share) + torch.tensor(ORANGE) * share
        self.rows.append((text, colours.round().byte().numpy(), notes or []))

    def save(self, path):
        width = MAPS * EDGE + (MAPS - 1) * GAP
        notes = [LABEL if row[2] else 0 for row in self.rows]
        page = Image.new("RGB", (width, len(self.rows) * (LABEL + EDGE + GAP) - GAP + sum(notes)), PAPER)
        pen, y = ImageDraw.Draw(page), 0
        for text, maps, below in self.rows:
            write(pen, (0, y), text)
            y += LABEL
            for i, pixels in enumerate(maps):
                x = i * (EDGE + GAP)
                page.paste(Image.fromarray(pixels).resize((EDGE, EDGE), Image.Resampling.NEAREST), (x, y))
                if below:
                    write(pen, (x, y + EDGE + 3), below[i])
            y += EDGE + GAP + (LABEL if below else 0)
        save(page, path)


def write(pen, place, text, size=16, colour=INK, anchor="la"):
    pen.text(place, text, fill=colour, font=ImageFont.load_default(size=size), anchor=anchor)


def save(page, path):
    """A palette makes the files small."""
    page.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def masked(path, x, *layers):
    """One sample's activation, and the same after each layer; the text names the share that is dropped here."""
    page = Page()
    after = [(text, keyed(layer, x), dropped(layer, x)) for text, layer in layers]
    top = torch.stack([x, *(y for _, y, _ in after)]).flatten(3).quantile(0.995, dim=3).amax((0, 1))
    page.row("activation", x[0], top)
    for text, y, gone in after:
        page.row(f"{text}: {gone.double().mean():.1%} dropped", y[0], top, gone[0])
    page.save(path)


def draw_dropout(path, x, pictures, filters):
    masked(path, x[:1], ("Dropout(0.1)", dropkit.Dropout(0.1)), ("Dropout(0.5)", dropkit.Dropout(0.5)))


def draw_channel_dropout(path, x, pictures, filters):
    page, layer = Page(), dropkit.Dropout2d(0.3)
    y, gone, top = keyed(layer, x, 3), dropped(layer, x, 3), x.flatten(2).quantile(0.995, dim=2) / 0.7
    page.row("activation of sample 0", x[0], top[0])
    for i in range(2):
        count = int(gone[i, :, 0, 0].sum())
        page.row(f"sample {i} after Dropout2d(0.3): {count} of {MAPS} channels dropped", y[i], top[i], gone[i])
    page.save(path)


def draw_relu_dropout(path, x, pictures, filters):
    page, layer = Page(), dropkit.ReLUDropout(0.3)
    before = F.conv2d(pictures, filters[:MAPS])[0]
    top = before.abs().flatten(1).quantile(0.99, dim=1)
    page.row("what the convolution gives; mid-grey is 0", before / top.view(-1, 1, 1), 1.0, low=-1.0)
    page.row("ReLU; black is 0", before.relu(), top / 0.7)
    page.row("ReLUDropout(0.3), in the same pass", keyed(layer, before[None])[0], top / 0.7, dropped(layer, x[:1])[0])
    page.save(path)


def draw_gaussian(path, x, pictures, filters):
    page, layer = Page(), dropkit.GaussianDropout(0.3)
    noise, top = keyed(layer, torch.ones_like(x[:1]))[0], x[0].flatten(1).quantile(0.99, dim=1) * 1.5
    page.row("activation", x[0], top)
    page.row(f"the noise, N(1, 0.43); here its variance is {noise.var():.2f}; mid-grey is 1", noise, 3.0, low=-1.0)
    page.row("GaussianDropout(0.3): their product; what is 0 stays 0", keyed(layer, x[:1])[0], top)
    page.save(path)


def draw_alpha(path, x, pictures, filters):
    page, alpha, plain = Page(), dropkit.AlphaDropout(0.2), dropkit.Dropout(0.2)  # one key, one mask
    before = F.conv2d(pictures[:1], filters[:MAPS])
    activation = F.selu(before / before.std((0, 2, 3), keepdim=True))
    activation = (activation - activation.mean()) / activation.std()
    gone = dropped(plain, activation)[0]
    for text, maps, orange in (
        ("SELU, standardised", activation, None),
        ("AlphaDropout(0.2)", keyed(alpha, activation), gone),
        ("Dropout(0.2), for comparison", keyed(plain, activation), gone),
    ):
        mean, variance = abs(maps.mean()), maps.var()
        page.row(f"{text}: |mean| {mean:.2f}, variance {variance:.2f}", maps[0], 3.0, orange, low=-2.0)
    page.save(path)


def draw_dropblock(path, x, pictures, filters):
    shared = dropkit.DropBlock2d(0.1, block_size=7, shared=True)
    layers = (
        ("DropBlock2d(0.1, block_size=7)", dropkit.DropBlock2d(0.1, block_size=7)),
        ("DropBlock2d(0.1, block_size=7, shared=True)", shared),
        ("DropBlock2d(0.1, block_size=21)", dropkit.DropBlock2d(0.1, block_size=21)),
    )
    masked(path, x[:1], *layers)


def draw_drop_path(path, x, pictures, filters):
    """Columns are samples. The branch is one more filter, of what the shortcut passes on."""
    page, layer, shortcut = Page(), dropkit.DropPath(0.5), x[:, 0]
    branch = F.conv2d(F.pad(x[:, :1], (3, 3, 3, 3), mode="replicate"), filters[1:2])[:, 0].relu()
    y, gone = keyed(layer, branch, 11), dropped(layer, branch, 11)
    top = (shortcut + 2 * branch).flatten(1).quantile(0.99, dim=1)
    page.row("the shortcut x of four samples", shortcut, top)
    page.row("DropPath(0.5) of branch(x)", y, top, gone)
    page.row("x + DropPath(0.5) of branch(x)", shortcut + y, top)
    page.save(path)


def draw_dropconnect(path, x, pictures, filters):
    page, conv = Page(), nn.Conv2d(1, MAPS, KERNEL, bias=False).double()
    conv.weight.data = filters[:MAPS].clone()
    layer = dropkit.DropConnect(conv, 0.3)
    impulse = F.pad(torch.ones(1, 1, 1, 1, dtype=torch.float64), [KERNEL - 1] * 4)
    thinned = keyed(layer, impulse)[0].flip(1, 2)  # the answer to an impulse is the filter, mirrored
    reach, top = thinned.abs().max().item(), x[0].flatten(1).quantile(0.99, dim=1) * 1.2
    page.row("the filters; mid-grey is 0", filters[:MAPS, 0], reach, low=-reach)
    page.row("DropConnect(0.3): the filters of this step", thinned, reach, thinned == 0, low=-reach)
    page.row("activation with the whole filters", x[0], top)
    page.row("activation with those of this step", keyed(layer, pictures[:1])[0].relu(), top)
    page.save(path)


def draw_concrete(path, x, pictures, filters):
    page, units, channels = Page(), dropkit.ConcreteDropout(0.3), dropkit.ConcreteDropout2d(0.3)
    ones, top = torch.ones_like(x[:1]), x[0].flatten(1).quantile(0.99, dim=1) * 1.3
    page.row("activation", x[0], top)
    z = (1 - 0.7 * keyed(units, ones)).clamp(0, 1)
    between = ((z > 0.05) & (z < 0.95)).double().mean()
    text = f"ConcreteDropout(0.3): the more orange, the larger z; {between:.0%} are between 0.05 and 0.95"
    page.row(text, keyed(units, x[:1])[0], top, z[0])
    z = (1 - 0.7 * keyed(channels, ones, 3)).clamp(0, 1)
    notes = [f"z = {value:.2f}" for value in z[0, :, 0, 0]]
    page.row("ConcreteDropout2d(0.3): one z for a channel", keyed(channels, x[:1], 3)[0], top, z[0], notes=notes)
    page.save(path)


def draw_schedules(path, x, pictures, filters):
    """The rate of a layer of base rate .5 against the progress of the training."""
    fine, edge, left, top = 3, 162, 30, 30  # lines are drawn three times as large, and made smaller
    page = Image.new("RGB", (900 * fine, 216 * fine), PAPER)
    pen = ImageDraw.Draw(page)
    for i, name in enumerate(("constant", "linear", "early:0.3", "late:0.5", "curriculum")):
        x0, schedule = left + i * (edge + GAP) + 1, dropkit.schedule.parse(name)
        progress = [t / 2000 for t in range(2001)]
        points = [(fine * (x0 + edge * t), fine * (top + edge * (1 - schedule(0.5, t) / 0.55))) for t in progress]
        pen.rectangle([fine * v for v in (x0, top, x0 + edge, top + edge)], outline=GREY, width=fine)
        pen.line(points, fill=ORANGE, width=4 * fine, joint="curve")
        write(pen, (fine * (x0 + edge / 2), fine * 4), name, 16 * fine, anchor="ma")
        for t, anchor in ((0, "la"), (1, "ra")):
            write(pen, (fine * (x0 + edge * t), fine * (top + edge + 4)), f"{t}", 13 * fine, anchor=anchor)
        write(pen, (fine * (x0 + edge / 2), fine * (top + edge + 4)), "progress", 13 * fine, anchor="ma")
    for p in (0, 0.5):
        write(pen, (fine * (left - 4), fine * (top + edge * (1 - p / 0.55))), f"{p:g}", 13 * fine, anchor="rm")
    write(pen, (0, fine * 4), "p", 16 * fine)
    save(page.resize((900, 216), Image.Resampling.LANCZOS), path)


def draw_max_norm(path, x, pictures, filters):
    """Norms before and after, of a hidden layer that has learned scikit-learn's digits a little."""
    net, digits = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)).double(), load_digits()
    for layer in (net[0], net[2]):
        size = layer.weight.numel()
        layer.weight.data = (
            torch.cos(torch.arange(size).double() * 12.9898).view(layer.weight.shape) / layer.in_features**0.5
        )
        layer.bias.data.zero_()
    inputs, labels = torch.tensor(digits.data / 16), torch.tensor(digits.target)
    momenta = [torch.zeros_like(parameter) for parameter in net.parameters()]
    for _ in range(200):
        gradients = torch.autograd.grad(F.cross_entropy(net(inputs), labels), list(net.parameters()))
        for parameter, momentum, gradient in zip(net.parameters(), momenta, gradients, strict=True):
            parameter.data -= 0.5 * momentum.mul_(0.9).add_(gradient)
    before, c = net[0].weight.norm(dim=1).tolist(), 3
    dropkit.max_norm(net[0], c)
    after = net[0].weight.norm(dim=1).tolist()
    draw_bars(path, before, after, c)


def draw_bars(path, before, after, c):
    base, left = 250, 70
    page = Image.new("RGB", (900, base + 30), PAPER)
    pen, unit, step = ImageDraw.Draw(page), 200 / max(before), (900 - left) / len(before)
    for i, (long, short) in enumerate(zip(before, after, strict=True)):
        x = round(left + i * step)
        pen.rectangle((x, base - long * unit, x + 22, base), fill=ORANGE)
        pen.rectangle((x, base - short * unit, x + 22, base), fill=GREY)
        write(pen, (x + 11, base + 6), f"{i + 1}", 13, anchor="ma")
    pen.line((left - 10, base - c * unit, 900, base - c * unit), fill=INK, width=2)
    write(pen, (left - 16, base - c * unit), f"c = {c}", anchor="rm")
    write(
        pen,
        (0, 4),
        f"norms of {len(before)} hidden units' weights: grey is what max_norm leaves, orange what it takes away",
    )
    write(pen, (0, base + 6), "unit", 13)
    save(page, path)


DRAWINGS = {
    "dropout": draw_dropout,
    "channel-dropout": draw_channel_dropout,
    "relu-dropout": draw_relu_dropout,
    "gaussian": draw_gaussian,
    "alpha": draw_alpha,
    "dropblock": draw_dropblock,
    "drop-path": draw_drop_path,
    "dropconnect": draw_dropconnect,
    "concrete": draw_concrete,
    "schedules": draw_schedules,
    "max-norm": draw_max_norm,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    pictures = photographs()
    filters = principal_filters(pictures)
    activation = F.conv2d(pictures, filters[:MAPS]).relu()  # [4, 4, 72, 72]
    for name, draw in DRAWINGS.items():
        draw(folder / f"{name}.png", activation, pictures, filters)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
