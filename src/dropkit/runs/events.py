"""Event files for TensorBoard: a run's epochs as they come, through the extra `tensorboard`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dropkit.errors import missing_extra

SCALARS = {
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "error/train": "train_error",
    "error/validation": "val_error",
    "images_per_second": "images_per_second",
}


def require_tensorboard() -> None:
    """Raise where the extra is missing.

    Raises:
        DropkitError: naming the extra.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise missing_extra("--tensorboard", "tensorboard") from None


@contextmanager
def event_files(folder: Path, *, wanted: bool, epochs: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what writes an epoch's metrics into event files in `folder`, or does nothing where they are not wanted.

    Args:
        folder: of the run; the files lie in `tensorboard/` in it.
        wanted: whether to write any.
        epochs: how many there are already: what an interrupted training wrote beyond them is hidden.
    """
    if not wanted:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=epochs + 1 if epochs else None) as writer:

        def write(row: dict[str, Any]) -> None:
            for tag, name in SCALARS.items():
                writer.add_scalar(tag, row[name], row["epoch"])
            writer.add_scalar("gap", row["val_loss"] - row["train_loss"], row["epoch"])
            writer.flush()

        yield write
