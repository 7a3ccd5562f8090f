"""A finding: one misuse of dropout, with what was observed and the cure."""

from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One misuse that was found.

    Attributes:
        code: stable name of the misuse, such as DK001; docs/check.md has a section for each.
        severity: `error` spoils results, `warning` probably does, `note` is worth knowing.
        where: path of the module, or file and line of the code.
        observed: what was seen, with its figures.
        cure: what to do.
    """

    code: str
    severity: str
    where: str
    observed: str
    cure: str

    def __str__(self) -> str:
        """Say it in a line or two, as a compiler would."""
        return f"{self.where}: {self.severity} {self.code}: {self.observed}. {self.cure}."
