"""The tutorial's script, corrected, with dropkit in your own training loop.

The network and its attribute names are the tutorial's. What was wrong there and is right here:

- `fc1` reads 64 * 7 * 7 features, since two poolings halve 28 x 28 twice; with 64 * 28 * 28 the script crashes.
- `model.train()` before training and `model.eval()` before measuring: a forgotten `eval()` leaves dropout on.
- Nothing is scaled at inference: what is kept was scaled by 1 / (1 - p) in training already.
- It measures on pictures that were not trained on, without which nobody knows whether dropout helped.

Run it: python examples/own_loop.py [--epochs 20] [--dropout 0.5]
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import dropkit


class CNNWithDropout(nn.Module):
    def __init__(self, dropout_prob=0.5):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.dropout = dropkit.Dropout(p=dropout_prob)  # was nn.Dropout: the same constructor, the same behaviour
        self.fc1 = nn.Linear(64 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), kernel_size=2, stride=2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), kernel_size=2, stride=2)
        x = x.view(x.size(0), -1)
        x = torch.relu(self.fc1(x))
        x = self.dropout(x)
        return self.fc2(x)


def pictures():
    """The digits that scikit-learn carries, enlarged to the tutorial's 28 x 28; every fourth is held out."""
    data = load_digits()
    images = F.interpolate(torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16, size=(28, 28))
    labels = torch.tensor(data.target)
    held_out = torch.arange(len(labels)) % 4 == 0
    return images[~held_out], labels[~held_out], images[held_out], labels[held_out]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    x_train, y_train, x_test, y_test = pictures()
    model = CNNWithDropout(dropout_prob=args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    step = 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        for batch in torch.randperm(len(x_train)).split(128):
            # The masks are a function of (seed, step): a resumed or repeated training has the same ones.
            with dropkit.keyed(model, seed=args.seed, step=step):
                loss = F.cross_entropy(model(x_train[batch]), y_train[batch])
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            step += 1
        model.eval()
        with torch.no_grad():
            wrong = (model(x_test).argmax(1) != y_test).float().mean().item()
        print(f"epoch {epoch}: training loss {loss.item():.3f}, test error {wrong:.1%}")


if __name__ == "__main__":
    main()
