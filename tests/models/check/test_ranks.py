"""Processes that train together: the same masks on all of them, and masks of their own."""

import subprocess
import sys

import pytest
import torch.distributed as dist

CODE = """
import sys
import torch, torch.distributed as dist
from torch import nn
import dropkit
from dropkit.models.check import ranks
from dropkit.models.check.check import check
from datetime import timedelta

rank, place = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)

def found(model, seed):
    torch.manual_seed(seed)
    return [(f.code, f.severity) for f in check(model, torch.ones(7, 5)) if f.code == "DK007"]

def net(layer):
    return nn.Sequential(nn.Linear(5, 5), layer, nn.Linear(5, 3))

print("same", found(net(nn.Dropout(0.3)), 100))
print("functional", found(nn.parallel.DistributedDataParallel(net(dropkit.Dropout(0.3))), 101))
keyed = net(dropkit.Dropout(0.3))
with dropkit.keyed(keyed, seed=1, step=0):
    print("keyed", found(keyed, 102))
print("none", found(net(nn.Dropout(0.0)), 103))
ranks.PATIENCE = timedelta(seconds=0.3)
print("own", found(net(nn.Dropout(0.3)), 104 + rank))
if rank == 0:
    print("alone", found(net(nn.Dropout(0.3)), 110))  # the other rank does not check: this one does not wait for ever
else:
    print("alone", [])
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs torch.distributed with gloo")
def test_the_same_generator_state_on_all_ranks(tmp_path):
    words = [[sys.executable, "-c", CODE, str(rank), str(tmp_path / "store")] for rank in range(2)]
    children = [subprocess.Popen(w, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for w in words]
    outputs = [child.communicate(timeout=120) for child in children]
    for out, err in outputs:
        assert out.splitlines() == [
            "same [('DK007', 'warning')]",
            "functional [('DK007', 'warning')]",
            "keyed []",
            "none []",
            "own []",
            "alone []",
        ], err
