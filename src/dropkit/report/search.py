"""The sections of a search: its trials, the response to each rate, what mattered, and how to use what was chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.report.importance import importance_block
from dropkit.report.panels import Block
from dropkit.report.response import response_block
from dropkit.report.trials import Search, trials_block


@dataclass(frozen=True)
class CommandBlock(Block):
    """A section of commands to copy, each with the words above it."""

    commands: Sequence[tuple[str, str]] = ()


def search_blocks(record: Mapping[str, Any]) -> list[Block]:
    """Return the sections of a search; none for any other record."""
    search = record.get("search") or {}
    made = (trials_block(record, search), response_block(search), importance_block(search), _use_block(search))
    return [block for block in made if block is not None]


def _meaning(use: Mapping[str, Any]) -> str:
    if not use:
        return "How to train with what the search chose."
    return f"How to train with {use.get('policy')}: {use.get('why')}."


def _use_block(search: Search) -> Block | None:
    told = (("On the command line", search.get("train")), ("In Python", search.get("python")))
    commands = [(words, str(text)) for words, text in told if text]
    if not commands:
        return None
    return CommandBlock(
        id="use",
        title="Use it",
        meaning=_meaning(search.get("use") or {}),
        panes=[],
        commands=commands,
    )
