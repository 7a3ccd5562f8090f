"""One of three processes that train together: torchrun --nproc-per-node 3 three_processes.py JOBS.

JOBS is a JSON file of {name: fields of a TrainConfig}. What each process saw is written beside it, RANK.json.
"""

import dataclasses
import json
import math
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from dropkit.errors import DropkitError
from dropkit.runs import training
from dropkit.runs.batches import Batches
from dropkit.runs.config import TrainConfig
from dropkit.runs.fitting import Fit


class StoppedError(Exception):
    pass


def stopped_and_resumed(config):
    """Stop in the second epoch, in all processes, and go on."""
    original, calls = Fit.run_epoch, []

    def run_epoch(self, on_step=None):
        calls.append(self)
        if len(calls) == 2:
            self.train_epoch(most_steps=1)
            raise StoppedError
        return original(self, on_step)

    Fit.run_epoch = run_epoch
    try:
        training.train(config, progress=False)
    except StoppedError:
        Fit.run_epoch = original
    return training.train(config, progress=False)


def nan_in_one(config):
    """The pictures of the last process are no numbers in the second epoch."""
    original = Batches.read_to_train

    def read_to_train(self, indices, epoch):
        x, y = original(self, indices, epoch)
        return (x * math.nan if dist.get_rank() == 2 and epoch == 1 else x), y

    Batches.read_to_train = read_to_train
    try:
        return training.train(config, progress=False)
    finally:
        Batches.read_to_train = original


def cannot_read_in_one(config):
    """The second process alone cannot read the pictures."""
    original = training.load

    def load(*args, **kwargs):
        if dist.get_rank() == 1:
            raise DropkitError("no pictures for process 1")
        return original(*args, **kwargs)

    training.load = load
    try:
        return training.train(config, progress=False)
    finally:
        training.load = original


def other_pictures_in_one(config):
    """The third process has other pictures."""
    pictures, split = training.load_data(config)
    if dist.get_rank() == 2:
        pictures = dataclasses.replace(pictures, fingerprint="another")
    return training.train(config, progress=False, data=(pictures, split))


def other_options_in_one(config):
    """The third process has another seed."""
    return training.train(dataclasses.replace(config, seed=dist.get_rank() // 2), progress=False)


SPECIAL = {
    job.__name__: job
    for job in (stopped_and_resumed, nan_in_one, cannot_read_in_one, other_pictures_in_one, other_options_in_one)
}


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    jobs, seen = Path(sys.argv[1]), {}
    for name, fields in json.loads(jobs.read_text()).items():
        job = SPECIAL.get(name, lambda config: training.train(config, progress=False))
        try:
            run = job(TrainConfig(**fields))
            seen[name] = {"status": run.summary["status"], "reason": run.summary["reason"], "epochs": len(run.epochs)}
        except DropkitError as error:
            seen[name] = {"error": str(error)}
    jobs.with_name(f"{dist.get_rank()}.json").write_text(json.dumps(seen))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as the command does: see dropkit.runs.torchrun.leave


if __name__ == "__main__":
    main()
