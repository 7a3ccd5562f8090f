"""Pictures of reading-a-page.md: a comparison on the digits, and the parts of its page."""

from pathlib import Path
from typing import Any

from sources.figure import IMAGES

import dropkit

CONFIG: dict[str, Any] = {"data": "digits", "max_train": 400, "max_epochs": 600}
POLICIES = ("none", "fc=0.5", "conv=0.1,fc=0.5")
COMMAND = "dropkit compare digits --max-train 400 --max-epochs 600"
PARTS = {
    "page-answer": "header",
    "page-advice": "#recommendation",
    "page-results": "#results",
    "page-policies": "#policies",
    "page-differences": "#differences",
    "page-learning": "#learning",
    "page-gap": "#gap",
    "page-calibration": "#calibration",
    "page-changes": "#changes",
}


def compare(folder: Path) -> Path:
    """Make the comparison in a folder; return its page. What is finished there is not made again."""
    configs = [dropkit.TrainConfig(dropout=policy, **CONFIG) for policy in POLICIES]
    return dropkit.compare(configs, out=folder / "page").page


def pictures() -> list[Path]:
    """Return the files that are cut out of the page."""
    return [IMAGES / f"{name}.png" for name in PARTS]
