"""Which tables and figures of which papers can be made again."""

import re
from collections.abc import Callable

from dropkit.errors import DropkitError, unknown
from dropkit.studies.recipes.recipe import BUDGETS, Recipe
from dropkit.studies.recipes.srivastava2014 import figure8, figure9, figure11, table4, table9, table10

RECIPES: dict[str, dict[str, Callable[[str], Recipe]]] = {
    "srivastava2014": {
        "table-4": table4.recipe,
        "table-9": table9.recipe,
        "table-10": table10.recipe,
        "figure-8": figure8.recipe,
        "figure-9": figure9.recipe,
        "figure-11": figure11.recipe,
    },
}


def find_recipe(paper: str, table: str | None, budget: str) -> Recipe:
    """Return the recipe of a paper's table or figure.

    Args:
        paper: the paper's short name.
        table: "table-9", "table9", "9" (a table), "figure-8", "Figure 8".
        budget: "quick" or "paper".

    Raises:
        DropkitError: if there is none; it lists all.

    >>> find_recipe("srivastava2014", "Figure 8", "quick").table
    'figure-8'
    """
    if paper not in RECIPES:
        raise unknown("paper", str(paper), RECIPES)
    known = RECIPES[paper]
    if table is None:
        raise DropkitError(f"name a table or figure of {paper} with --table: allowed are {', '.join(known)}")
    name = _plain(str(table))
    if name not in known:
        raise unknown(f"table or figure of {paper}", str(table), known)
    if budget not in BUDGETS:
        raise unknown("budget", str(budget), BUDGETS)
    return known[name](budget)


def _plain(table: str) -> str:
    """Return a table's name as recipes have it.

    >>> [_plain(text) for text in ("9", "Table 9", "figure11", "fig. 8", "8a")]
    ['table-9', 'table-9', 'figure-11', 'figure-8', '8a']
    """
    match = re.fullmatch(r"(table|figure|fig)?[\s._-]*([0-9]+)", table.strip().lower())
    if match is None:
        return table
    return f"{'figure' if (match[1] or '').startswith('fig') else 'table'}-{int(match[2])}"
