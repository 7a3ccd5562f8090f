"""What is measured of the runs of a row: one value a run, and where there is one the value of every test picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dropkit.data.pictures import Pictures
from dropkit.files import make_folder, read_json, write_json
from dropkit.runs.metrics import per_picture
from dropkit.runs.run import Run
from dropkit.studies.evidence.activity import activity_of_run
from dropkit.studies.recipes.averages import wrong_averages
from dropkit.studies.recipes.recipe import Measure

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A measure of one run.

    Attributes:
        value: the figure.
        pictures: the value of every test picture [N], whose mean it is; None where it is one of the whole.
    """

    value: float
    pictures: Array | None = None


class Measuring:
    """Measures runs. What takes its time is kept in the folder `measured`, and not measured again.

    Args:
        folder: the reproduction's.
        measures: all that are asked for: the averages of a run are drawn together.
        progress: show progress on standard error.
    """

    def __init__(self, folder: Path, measures: Sequence[Measure], *, progress: bool = True) -> None:
        self.folder = folder / "measured"
        self.draws = sorted({measure.draws for measure in measures if measure.kind == "average"})
        self.progress = progress

    def __call__(self, measure: Measure, run: Run, pictures: Pictures) -> Measured:
        """Return a measure of a run that finished."""
        if measure.kind == "error":
            logits, labels = run.test_predictions()
            return _mean(per_picture(logits.numpy(), labels.numpy(), "error"))
        if measure.kind == "average":
            return _mean(self._averages(run, pictures)[measure.draws])
        layer = self.activity(run)[0]
        return Measured(float(layer["mean" if measure.kind == "activation" else "zero"]))

    def activity(self, run: Run) -> list[dict[str, Any]]:
        """Return how active the units of each hidden layer of a run are."""
        place = self.folder / f"{run.folder.name}-activity.json"
        if place.is_file():
            kept: list[dict[str, Any]] = read_json(place)
            return kept
        found = activity_of_run(run, progress=False)
        make_folder(self.folder)
        write_json(place, found)
        return found

    def _averages(self, run: Run, pictures: Pictures) -> dict[int, Array]:
        place = self.folder / f"{run.folder.name}-averages.safetensors"
        return wrong_averages(run, self.draws, pictures, place, progress=self.progress)


def _mean(pictures: Array) -> Measured:
    return Measured(float(pictures.mean()), pictures)
