"""The sections that a record's details give, in the order of the page; the same for a run and a study."""

from collections.abc import Mapping
from typing import Any

from dropkit.report.calibration import calibration_block
from dropkit.report.confusion import confusion_block
from dropkit.report.details import read_details
from dropkit.report.filters import filters_block
from dropkit.report.gallery import changes_block, mistakes_block
from dropkit.report.panels import Block
from dropkit.report.recall import recall_block

ORDER = (recall_block, calibration_block, confusion_block, filters_block, mistakes_block, changes_block)


def detail_blocks(record: Mapping[str, Any]) -> list[Block]:
    """Return the sections whose numbers or pictures the record has."""
    details = read_details(record)
    if details is None:
        return []
    return [block for make in ORDER if (block := make(details)) is not None]
