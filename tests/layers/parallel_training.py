"""One rank of data-parallel trainings by 1, 2 and 3 processes: python parallel_training.py RANK STORE."""

import json
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import dropkit

SAMPLES, STEPS = 30, 4


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3), dropkit.ReLUDropout(0.2), dropkit.Dropout2d(0.3), nn.Flatten(), dropkit.Dropout(0.5),
        nn.Linear(5 * 5 * 5, 3),
    )  # fmt: skip


def trained(rank, group, shared):
    """Loss of each step over the whole batch, and the mask that this rank's part gets in the last layer."""
    torch.manual_seed(5)
    x, y = torch.randn(SAMPLES, 2, 7, 7), torch.randint(3, (SAMPLES,))
    model, world = network(), dist.get_world_size(group)
    wrapped = DistributedDataParallel(model, process_group=group)
    torch.manual_seed(100 + rank)  # whatever the ranks' own generators do
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    size, losses = SAMPLES // world, []
    part = slice(rank * size, (rank + 1) * size)
    where = {"rank": "shared"} if shared else {"first_sample": part.start}
    for step in range(STEPS):
        with dropkit.keyed(wrapped, seed=7, step=step, **where):
            loss = nn.functional.cross_entropy(wrapped(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total, group=group)
        losses.append(float(total) / world)
    with dropkit.keyed(model, seed=7, step=0, **where):
        return losses, model[4](torch.ones(size, 11)).flatten().tolist()


def main():
    rank, store = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=3)
    found = {}
    for name, world, shared in (("1", 1, False), ("2", 2, False), ("3", 3, False), ("shared", 2, True)):
        group = dist.new_group(list(range(world)))
        if rank < world:
            found[name] = trained(rank, group, shared)
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
