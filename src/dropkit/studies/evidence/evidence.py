"""All evidence of one run, measured on its own test pictures."""

from collections.abc import Callable
from operator import index
from typing import Any

import torch

from dropkit.data.counting import counting
from dropkit.data.pictures import Pictures
from dropkit.errors import DropkitError
from dropkit.runs.inference import ReadyNetwork
from dropkit.runs.run import Run
from dropkit.studies.evidence.activity import activity, described
from dropkit.studies.evidence.correlation import correlation
from dropkit.studies.evidence.disagreement import DRAWS, disagreement
from dropkit.studies.evidence.layers import Layer, chosen_layers, drops, hidden_layers
from dropkit.studies.evidence.norms import weight_norms
from dropkit.studies.evidence.pictures import TestPictures, load_pictures
from dropkit.studies.evidence.recording import observe
from dropkit.studies.evidence.silencing import HALVES, silenced

Tick = Callable[[int], None]

NOTHING = "it was trained without dropout, so all its thinned networks are the same"


def measure(
    run: Run,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    pictures: Pictures | None = None,
) -> dict[str, Any]:
    """Return what dropout, or its absence, has made of a run's network.

    Args:
        run: a finished run, with dropout or without.
        seed: of the masks, of the halves that are silenced, and of what is chosen where there is more than is needed;
            an integer from 0 to 2**64 - 1.
        device: where the network computes.
        progress: show progress on standard error.
        pictures: the run's, where they are loaded already.

    Returns:
        Plain JSON; `docs/evidence.md` says what each figure is.

    Raises:
        DropkitError: if the run has no network, its data are not what they were, or an argument is out of range.
    """
    require_seed(seed)
    network = ReadyNetwork(run, device)
    chosen = TestPictures(run, load_pictures(run, progress=progress) if pictures is None else pictures, seed)
    everywhere = hidden_layers(network.model, chosen.example(network))
    layers = chosen_layers(everywhere)
    passes = len(chosen) * (1 + DRAWS + len(layers) * (1 + HALVES))
    title = f"evidence on {run.config.dropout}, seed {run.config.seed}: passes"
    with counting(title, passes, show=progress) as tick:
        error = _error(network, chosen, tick)
        rows = [_layer(network, layer, chosen, seed, error, tick) for layer in layers]
        thinned, why, notes = _thinned(network, chosen, seed, tick)
    names = {layer.site.name for layer in layers}
    return {
        **_told(run),
        "pictures": len(chosen),
        "of": chosen.of,
        "error": error,
        "drops": thinned is not None or drops(network.model),
        "layers": rows,
        "left_out": [layer.site.name for layer in everywhere if layer.site.name not in names],
        "disagreement": thinned,
        "no_disagreement": why,
        "norms": weight_norms(network.model),
        "notes": notes,
    }


def require_seed(seed: Any) -> None:
    """Refuse what is no seed.

    Raises:
        DropkitError: saying what one is.
    """
    try:
        good = not isinstance(seed, bool) and 0 <= index(seed) < 1 << 64
    except TypeError:
        good = False
    if not good:
        raise DropkitError(f"the seed must be a whole number from 0 to 2**64 - 1, but got {seed!r}")


def _told(run: Run) -> dict[str, Any]:
    """Return what the run's own record says of it."""
    config, summary = run.config, run.summary
    return {
        "policy": config.dropout,
        "run_seed": config.seed,
        "weight_decay": config.weight_decay,
        "pretrained": config.pretrained,
        "test_error": summary["test"]["error"],
        "gap": summary["gap"],
        "best_epoch": summary["best_epoch"],
        "train_loss": summary["train"]["loss"],
        "val_loss": summary["val"]["loss"],
    }


def _error(network: ReadyNetwork, pictures: TestPictures, tick: Tick) -> float:
    """Return the error of the plain pass."""
    wrong = 0
    with torch.inference_mode():
        for place, batch in pictures.batches(network):
            wrong += int((network.model(batch).argmax(-1).cpu() != pictures.labels[place]).sum())
            tick(len(batch))
    return wrong / len(pictures)


def _layer(
    network: ReadyNetwork, layer: Layer, pictures: TestPictures, seed: int, error: float, tick: Tick
) -> dict[str, Any]:
    """Return what is measured of a layer."""
    observed = observe(network, layer, pictures, seed=seed, tick=tick)
    half = silenced(network, layer, pictures, observed.units, seed=seed, tick=lambda count: tick(HALVES * count))
    return {
        **described(layer, observed),
        "correlation": correlation(observed, seed=seed),
        "silenced": None if half is None else {**half, "cost": half["error"] - error},
        "activity": activity(observed),
    }


def _thinned(
    network: ReadyNetwork, pictures: TestPictures, seed: int, tick: Tick
) -> tuple[dict[str, Any] | None, str, list[str]]:
    """Return what thinned networks do, or why there are none, and what there is to say."""
    try:
        found, notes = disagreement(network, pictures, seed=seed, tick=lambda count: tick(DRAWS * count))
    except DropkitError as reason:  # nothing is dropped: for a run without dropout that is no mistake
        return None, str(reason) if drops(network.model) else NOTHING, []
    return found, "", notes
