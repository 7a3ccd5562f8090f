"""One training, from its config to its record on disk; unfinished ones go on, finished ones are read."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropkit.data.names import printable
from dropkit.data.pictures import Pictures, load
from dropkit.data.split import Split, make_split
from dropkit.errors import DropkitError
from dropkit.files import make_folder, read_record, write_json
from dropkit.layers.keyed import keyed
from dropkit.models.check.check import check
from dropkit.models.head import require_head_policy
from dropkit.models.policy import Policy
from dropkit.models.zoo import version_of
from dropkit.models.zoo_names import is_zoo
from dropkit.runs.allocation import ran_out
from dropkit.runs.augment import Augmentation
from dropkit.runs.checkpoint import load_checkpoint, save_checkpoint
from dropkit.runs.config import DEFAULT_BATCH, TrainConfig
from dropkit.runs.details import run_details
from dropkit.runs.display import Display, training_display
from dropkit.runs.distributed import ALONE, World, joined, load_in_turn
from dropkit.runs.environment import describe_environment
from dropkit.runs.events import event_files, require_tensorboard
from dropkit.runs.features import FeatureFolder, Features, image_size_of, needed_by
from dropkit.runs.fitting import DivergedError, Fit, StoppedError, augmentation_of, pick_device
from dropkit.runs.interrupts import deferred_interrupt, deferred_termination
from dropkit.runs.memory import out_of_memory, sized
from dropkit.runs.metrics import balanced_error, ece, error, nll, recall
from dropkit.runs.occupied import occupied
from dropkit.runs.record import RunFolder, own_code
from dropkit.runs.run import Run, read_run, write_run_page

SHOWN_CLASSES = 10
PATIENCE = 60.0  # seconds that the trainings of a study that goes on wait for those of a killed one to end
CHECKED_PICTURES = 8  # enough to run a network on, few enough to cost no time


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    page: bool = True,
    data: tuple[Pictures, Split] | None = None,
    features: Path | None = None,
) -> Run:
    """Train a network with dropout on pictures, evaluate it, and keep everything about it in a folder.

    Called in each of several processes (of torchrun, or of a process group of torch.distributed) it trains once, with
    all of them, and only the first one writes and speaks: docs/distributed.md.

    The same config on its own unfinished folder goes on where it was stopped, with weights bit-equal to those of a
    training that was never stopped (on a CPU, with the same machine, versions and thread count). On its finished
    folder it is only read.

    Args:
        config: what to train, and how.
        progress: show progress on standard error.
        page: write the run's page, report.html, into its folder.
        data: the pictures and their split where the caller has them loaded already.
        features: folder in which the features of a `pretrained` training are kept; `features` in the run's when not
            given.

    Returns:
        The run: its summary, its metrics, its folder.

    Raises:
        DropkitError: if the data, the network, the policy or the folder cannot be used. Nothing has been written then.

    Example:
        >>> import tempfile
        >>> config = TrainConfig(data="digits", model="mlp", epochs=1, out=tempfile.mkdtemp())
        >>> train(config, progress=False).summary["epochs"]
        1
    """
    with joined(config) as world:
        progress = progress and world.first
        folder = RunFolder(config.folder())
        config = _as_begun(config, folder)
        world.from_first(lambda: folder.require_same(config))
        with _own_data(config, folder, data, progress, world) as (pictures, split):
            world.require_same("pictures", pictures.fingerprint)
            if progress:
                say(describe_data(pictures, split))
            world.from_first(lambda: _refuse_other_pictures(folder, config, pictures, split))
            repeated = world.from_first(lambda: folder.finished)
            if repeated and world.first:
                folder.remove_checkpoints()  # which a kill right after the summary left
            if not repeated:
                config = _sized(config, (pictures, split), world, progress=progress)
                _train(folder, config, (pictures, split), features or folder.features, progress, world=world)
            return world.from_first(lambda: _read(folder, pictures, repeated=repeated, page=page))


def _as_begun(config: TrainConfig, folder: RunFolder) -> TrainConfig:
    """Return the config with the batch size that was found when its run began."""
    if not config.finds_batch_size or not folder.begun:
        return config
    stored = read_record(folder.config)
    return replace(config, out=str(folder.path), batch_size=stored["batch_size"])


def _sized(config: TrainConfig, data: tuple[Pictures, Split], world: World, *, progress: bool) -> TrainConfig:
    """Return the config with a batch size that fits, where it leaves that open; its folder stays the same."""
    if not config.finds_batch_size:
        return config
    if not world.alone:
        raise DropkitError("batch_size auto is for one process: give several of them a number of pictures")
    out = str(config.folder())
    if config.pretrained:  # a head on features takes next to nothing
        return replace(config, out=out, batch_size=DEFAULT_BATCH)
    with computing_threads(config.threads):
        found = sized(config, lambda tried: Fit(tried, *data))
    if progress:
        say(f"batches of {found.batch_size} pictures fit into the memory")
    return replace(found, out=out)


def _read(folder: RunFolder, pictures: Pictures, *, repeated: bool, page: bool) -> Run:
    """Return the finished run, and write its page where it has none."""
    run = read_run(folder.path, repeated=repeated)
    if page and not run.page.is_file():  # also after a stop between the summary and the page
        write_json(folder.details, run_details(run, pictures))
        write_run_page(run)
    return run


def advance(
    config: TrainConfig,
    data: tuple[Pictures, Split],
    *,
    until: int | None = None,
    features: Path | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a run, from wherever it is, until an epoch is done or to its end; return whether it has ended.

    A run that pauses and goes on has weights bit-equal to those of one that never paused, as after any other stop.

    Args:
        config: what to train, and how.
        data: the pictures and their split.
        until: the epoch after which it pauses; None trains to the end. A run that is further already stays so.
        features: folder in which the features of a `pretrained` training are kept.
        asked_to_stop: is asked after each step; after the step at which it says so a checkpoint is written.

    Raises:
        DropkitError: as `train` does.

    Example:
        >>> import tempfile
        >>> config = TrainConfig(data="digits", model="mlp", epochs=2, out=tempfile.mkdtemp())
        >>> data = load_data(config)
        >>> advance(config, data, until=1), advance(config, data, until=2)
        (False, True)
    """
    folder = RunFolder(config.folder())
    folder.require_same(config)
    _refuse_other_pictures(folder, config, *data)
    if not folder.finished:
        place = features or folder.features
        how: dict[str, Any] = {"until": until, "quiet": True, "asked_to_stop": asked_to_stop, "patience": PATIENCE}
        _train(folder, config, data, place, progress=False, **how)
    return folder.finished


def _train(
    folder: RunFolder,
    config: TrainConfig,
    data: tuple[Pictures, Split],
    place: Path,
    progress: bool,
    until: int | None = None,
    world: World = ALONE,
    quiet: bool = False,
    asked_to_stop: Callable[[], bool] = lambda: False,
    patience: float = 0.0,
) -> None:
    """Train from where the folder's run is to its end, or until an epoch is done."""
    if config.tensorboard:
        require_tensorboard()
    with computing_threads(world.threads(config.threads)), ExitStack() as held, _enough_memory(config):
        features = None
        if config.pretrained:
            features = world.from_first(lambda: keep_features(config, data, place, progress=progress))
        fresh = world.first and not folder.resumable
        fit = world.together(lambda: Fit(config, *data, features, fresh=fresh, world=world))
        environment = {**describe_environment(fit.device, fit.dtype), **_code_and_weights(config)}
        environment["world_size"] = world.size
        if features is not None:
            # Relative, so that a study may be moved as a whole.
            environment |= {"weights": features.weights, "features": os.path.relpath(place, folder.path)}
        split = data[1].to_json(data[0])
        world.from_first(lambda: _hold(folder, held, patience))
        # Again, now that nobody else is at work there: it may have been another run's since.
        world.from_first(lambda: folder.require_same(config))
        world.from_first(lambda: _refuse_other_pictures(folder, config, *data))
        if world.from_first(lambda: folder.finished):  # by whoever was at work there
            return
        world.from_first(lambda: _begin_or_resume(folder, fit, environment, split, quiet=quiet))
        fit.follow_first()
        if progress:
            _say_misuse(fit)
        with (
            training_display(config.epoch_limit, show=progress) as display,
            event_files(
                folder.path, wanted=config.tensorboard and world.first, epochs=fit.progress.epoch
            ) as write_events,
        ):
            failure = _run_epochs(folder, fit, display, write_events, until, asked_to_stop)
        if failure is not None or fit.finished():
            _finish(folder, fit, failure)


@contextmanager
def _enough_memory(config: TrainConfig) -> Iterator[None]:
    """Say which batch size to try where the memory does not suffice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise out_of_memory(config.batch_size, pick_device(config.device)) from None


def _hold(folder: RunFolder, held: ExitStack, patience: float) -> None:
    """Keep other processes out of the folder, which is made for that, until `held` is closed."""
    make_folder(folder.path)
    held.enter_context(occupied(folder.path, patience=patience))


def _say_misuse(fit: Fit) -> None:
    """Say what the check finds, but for notes, in the network that is going to be trained, and leave it as it is."""
    try:
        # As it is trained: of masks without a key the check asks all processes whether they are the same.
        with nullcontext() if fit.world.alone else keyed(fit.model, seed=fit.config.seed, step=0):
            found = check(fit.model, fit.data.read(fit.data.train[:CHECKED_PICTURES])[0])
    except Exception as error:  # a network may do what the check cannot follow, and train well all the same
        reason = str(error).partition("\n")[0]
        say(f"note: the network could not be checked for misuse of dropout ({type(error).__name__}: {reason})")
        return
    for finding in found:
        if finding.severity != "note":
            say(str(finding))


def _code_and_weights(config: TrainConfig) -> dict[str, Any]:
    """Return what stands for the code of the user's own functions, and the version of a library's networks."""
    code = {f"{option}_code": value for option, _, value in own_code(config)}
    return {**code, **(version_of(config.model) if is_zoo(config.model) else {})}


def keep_features(
    config: TrainConfig, data: tuple[Pictures, Split], place: Path, *, whole: bool = False, progress: bool = False
) -> Features:
    """Return the features of a `pretrained` training, from the folder `place`, where the first call keeps them.

    Args:
        config: the training.
        data: all pictures, and which of them it needs.
        place: the folder.
        whole: compute all pictures' features, also those that this split leaves out.
        progress: show progress on standard error.
    """
    require_head_policy(Policy.parse(config.dropout))  # before what may take minutes
    device = pick_device(config.device)
    needed = None if whole else needed_by(*data)
    return FeatureFolder(place, config.model).load_or_compute(data[0], device, needed=needed, progress=progress)


@contextmanager
def _own_data(
    config: TrainConfig, folder: RunFolder, data: tuple[Pictures, Split] | None, progress: bool, world: World
) -> Iterator[tuple[Pictures, Split]]:
    """Yield the caller's data, or load them; what streaming put on disk for them is removed when all is done."""
    if data is not None:
        yield data
        return
    pictures, split = load_in_turn(world, load_data, config, folder.path, progress=progress)
    try:
        yield pictures, split
    except DropkitError:
        if world.first and not folder.begun:
            pictures.remove_spool()
        raise  # else the pictures stay: the same command goes on with them
    if world.first:
        pictures.remove_spool()


def load_data(
    config: TrainConfig, *, spool: Path | None = None, copies: int = 1, progress: bool = False
) -> tuple[Pictures, Split]:
    """Return the pictures that a config names, and their split.

    Args:
        config: what to load.
        spool: where pictures may be kept on disk while they are streamed.
        copies: how many processes will hold the pictures at once.
        progress: show progress on standard error.
    """
    if config.augment is not None:
        Augmentation.parse(config.augment, config.seed)  # before the pictures are read, which may take its time
    if config.pretrained:
        require_head_policy(Policy.parse(config.dropout))
    pictures = load(
        config.data,
        image_size=image_size_of(config),
        on_bad_image=config.on_bad_image,
        stream=config.stream,
        spool=spool,
        copies=copies,
        progress=progress,
    )
    try:
        return pictures, split_data(config, pictures)
    except DropkitError:
        pictures.remove_spool()  # pictures that cannot be divided are of no use on disk
        raise


def split_data(config: TrainConfig, pictures: Pictures) -> Split:
    """Return the split that a config asks for."""
    return make_split(
        pictures, seed=config.split_seed, max_train=config.max_train, group=config.group, fold=config.fold
    )


def describe_data(pictures: Pictures, split: Split) -> str:
    """Say in a line or two what was read and how it is split, so that a mistake in it is seen before the training."""
    names = ", ".join(map(printable, pictures.class_names[:SHOWN_CLASSES])) + (
        ", ..." if pictures.classes > SHOWN_CLASSES else ""
    )
    size = "x".join(map(str, pictures.shape[1:])) + (" in colour" if pictures.shape[0] == 3 else " in grey")
    lines = [
        f"{printable(pictures.name)}: {len(pictures):,} pictures of {size}, {pictures.classes} classes ({names}); "
        f"{len(split.train):,} for training, {len(split.val):,} for validation, {len(split.test):,} for test",
        split.how,
        *pictures.notes,
        *split.notes,
    ]
    return "\n".join(lines)


def _refuse_other_pictures(folder: RunFolder, config: TrainConfig, pictures: Pictures, split: Split) -> None:
    """Raise if the folder's run saw other pictures, or the same ones split otherwise."""
    if folder.begun and read_record(folder.split) != split.to_json(pictures):
        raise DropkitError(
            f"the run in {str(folder.path)!r} saw other pictures than {config.data!r} holds now: "
            f"restore them, or give a new folder with --out"
        )


def _begin_or_resume(
    folder: RunFolder, fit: Fit, environment: dict[str, Any], split: dict[str, Any], *, quiet: bool = False
) -> None:
    if not folder.begun:
        folder.begin(fit.config, environment, split)
        return
    before = {"world_size": 1, **read_record(folder.environment)}
    if before.get("weights") != environment.get("weights"):
        raise DropkitError(
            f"the frozen network's weights are others than those with which the run in {str(folder.path)!r} began: "
            f"restore its folder of features, or give a new folder with --out"
        )
    conditions = ("torch", "cpu", "threads", "device", "precision", "world_size")
    changed = [name for name in conditions if before.get(name) != environment[name]]
    if changed:
        details = ", ".join(f"{name} {before.get(name)} then, {environment[name]} now" for name in changed)
        say(f"note: going on under other conditions ({details}): weights will agree to rounding, not to the bit")
    folder.remove_parts()
    known: list[dict[str, Any]] | None = None
    if folder.resumable:
        fit.best, progress = load_checkpoint(folder.checkpoint, fit.model, fit.optimizer, say)
        known = progress.pop("rows", None)
        vars(fit.progress).update(progress)
        fit.best = {name: value.to(fit.device) for name, value in fit.best.items()}
    fit.progress.rows = folder.keep_metrics(fit.progress.epoch, known)
    if not quiet:
        say(f"going on after {fit.progress} in {folder.path}")


def _run_epochs(
    folder: RunFolder,
    fit: Fit,
    display: Display,
    write_events: Callable[[dict[str, Any]], None],
    until: int | None = None,
    asked: Callable[[], bool] = lambda: False,
) -> DivergedError | None:
    """Train until the budget or patience is used up, or an epoch is done; return the failure when the loss stopped
    being a number. SIGTERM is held back until the next step is made, and a checkpoint written."""
    # Several processes would be at different steps: they go on from the last whole epoch.
    with deferred_termination() if fit.world.alone else nullcontext(lambda: False) as terminated:
        fit.asked_to_stop = lambda: terminated() or asked()
        while not fit.finished() and (until is None or fit.progress.epoch < until):
            try:
                row = fit.run_epoch(display.step)
            except DivergedError as failure:
                return failure
            except StoppedError:
                _keep(folder, fit)
                if terminated():
                    say(f"terminated after {fit.progress} in {folder.path}: the same command goes on from there")
                break  # the signal has its effect at the end of the block
            if not fit.world.first:
                continue
            with deferred_interrupt():
                folder.append_metrics(row)
                _keep(folder, fit)
            write_events(row)
            display.epoch(row)
    fit.asked_to_stop = lambda: False
    return None


def _keep(folder: RunFolder, fit: Fit) -> None:
    """Write a checkpoint of where the training is."""
    save_checkpoint(folder.checkpoint, fit.model, fit.best, fit.optimizer, asdict(fit.progress))


def _finish(folder: RunFolder, fit: Fit, failure: DivergedError | None) -> None:
    summary: dict[str, Any] = {
        "status": "finished" if failure is None else "diverged",
        "reason": None if failure is None else str(failure),
        "epochs": fit.progress.epoch,
        "best_epoch": fit.progress.best_epoch or None,
        "budget": fit.config.epoch_limit,
        "steps": fit.progress.step,
        "seconds": fit.progress.seconds,
        "parameters": sum(p.numel() for p in fit.model.parameters()),
        "data": _describe_data(fit),
        "train": None,
        "val": None,
        "test": None,
        "gap": None,
    }
    test = None
    if fit.best:
        fit.model.load_state_dict(fit.best)
        test = {
            "logits": fit.predict(fit.data.test, exact=True),
            "labels": fit.data.labels[fit.data.test.to(fit.device)].cpu(),
        }
        best_row = fit.progress.rows[fit.progress.best_epoch - 1]
        summary["train"] = {"loss": best_row["train_loss"], "error": best_row["train_error"]}
        summary["val"] = {"loss": best_row["val_loss"], "error": best_row["val_error"]}
        summary["gap"] = best_row["val_loss"] - best_row["train_loss"]
        summary["test"] = test_figures(test["logits"], test["labels"])
    if fit.world.first:
        with deferred_interrupt():
            folder.finish(summary, fit.best, test)


def test_figures(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return error, balanced error (fractions), NLL (nats), calibration error and recall on the test pictures."""
    outputs, truth = logits.double().numpy(), labels.numpy()
    return {
        "error": error(outputs, truth),
        "balanced_error": balanced_error(outputs, truth),
        "nll": nll(outputs, truth),
        "ece": ece(outputs, truth),
        "n": len(truth),
        "recall": recall(outputs, truth),
    }


def _describe_data(fit: Fit) -> dict[str, Any]:
    data = fit.data
    return {
        "name": fit.pictures.name,
        "pictures": len(fit.pictures),
        "classes": fit.pictures.classes,
        "class_names": list(fit.pictures.class_names),
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
        "shape": list(fit.pictures.shape),
        "augment": augmentation_of(fit.config, fit.pictures),
        "skipped": len(fit.pictures.skipped),
        "duplicates": fit.split.duplicates,
        "mean": data.mean.flatten().tolist(),
        "std": (1 / data.inverse_std.flatten()).tolist(),
    }


@contextmanager
def computing_threads(count: int | None) -> Iterator[None]:
    """Compute with `count` CPU threads inside the block."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def say(text: str) -> None:
    """Tell the user something on standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
