"""Processes that train together and draw the same masks."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta

import torch.distributed as dist

from dropkit.layers.base import DropLayer
from dropkit.models.check.evidence import Evidence, Rule
from dropkit.models.check.finding import Finding
from dropkit.models.check.functional import functional_dropouts

PATIENCE = timedelta(seconds=2)  # for ranks that come to the check a little later


def same_masks_on_all_ranks(evidence: Evidence) -> Iterator[Finding]:
    """DK007: all ranks have the same generator state, and dropout draws from it."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        return
    if not _draws(evidence) or not all_ranks_share(_digest(evidence)):
        return
    ranks = dist.get_world_size()
    observed = f"all {ranks} ranks have the same state of torch's generator, so their dropout draws the same masks"
    cure = (
        "Seed each rank differently once the weights are there (torch.manual_seed(seed + rank)), or train within "
        "dropkit.keyed, whose first_sample tells the ranks apart"
    )
    yield Finding("DK007", "warning", evidence.place(""), observed, cure)


def _draws(evidence: Evidence) -> bool:
    """Whether any dropout acts whose masks come from the generator and from no key."""
    live = [evidence.modules[path] for path, rate in evidence.rates.items() if rate > 0]
    if any(not isinstance(layer, DropLayer) or layer.key is None for layer in live):
        return True
    return any(dropout.acts for dropout in functional_dropouts(evidence.training))


def _digest(evidence: Evidence) -> str:
    states = b"".join(state.numpy().tobytes() for state in evidence.generator_states)
    return hashlib.sha256(states).hexdigest()


def all_ranks_share(digest: str) -> bool:
    """Whether every rank has put down the same digest.

    Not a collective operation, which would wait for ever for ranks that do not check: each rank leaves its digest in
    the group's store, and looks for a moment whether the others have left the same.
    """
    store = dist.distributed_c10d._get_default_store()
    keys = [f"dropkit.check/{digest}/{rank}" for rank in range(dist.get_world_size())]
    store.set(keys[dist.get_rank()], "1")
    try:
        store.wait(keys, PATIENCE)
    except (RuntimeError, ValueError):  # DistStoreError, by another name in some versions
        return False
    return True


RULES: tuple[Rule, ...] = (same_masks_on_all_ranks,)
