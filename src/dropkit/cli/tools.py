"""Commands that look at networks and machines: check, bench."""

import json as json_module
from dataclasses import asdict, dataclass, fields
from typing import Annotated

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from dropkit.bench.bench import BenchConfig
from dropkit.cli.said import DONE, INCOMPLETE, print_out, tell


@dataclass(frozen=True, kw_only=True)
class CheckCommand:
    """Run a network and find the misuse of dropout in it. The exit code is 1 where an error is found."""

    network: Annotated[Positional[str], arg(metavar="RUN|MODEL", help_behavior_hint="")]
    """Folder of a finished run, or a network as `dropkit train --model` names it, with random weights."""

    data: Annotated[str | None, arg(metavar="DATA", help_behavior_hint="")] = None
    """Pictures to run a MODEL on, as `dropkit train` names them (default: random ones)."""

    input: Annotated[str | None, arg(metavar="CxHxW", help_behavior_hint="")] = None
    """Size of a MODEL's random pictures (default: 1x28x28 for dropkit's networks, 3x224x224 for others)."""

    classes: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None
    """Classes of a MODEL (default: 10)."""

    dropout: Annotated[str | None, arg(metavar="POLICY", help_behavior_hint="")] = None
    """Dropout to put into a MODEL, such as conv=0.1,fc=0.5 (default: as it was built)."""

    json: FlagCreatePairsOff[bool] = False
    """Print the findings as JSON on standard output."""

    def run(self) -> int:
        """Print the findings; return the exit code."""
        from dropkit.models.check.check import check
        from dropkit.runs.checking import network_to_check, parse_shape, print_findings

        shape = None if self.input is None else parse_shape(self.input)
        model, pictures = network_to_check(
            self.network, data=self.data, shape=shape, classes=self.classes, policy=self.dropout
        )
        found = check(model, pictures)
        if self.json:
            print_out(json_module.dumps({"network": self.network, "findings": [asdict(f) for f in found]}, indent=1))
        else:
            print_findings(found, self.network)
        return INCOMPLETE if any(finding.severity == "error" for finding in found) else DONE


@dataclass(frozen=True, kw_only=True)
class BenchCommand(BenchConfig):
    """Time dropkit's dropout beside torch.nn's on this machine, and beside a copy as the physical limit."""

    json: FlagCreatePairsOff[bool] = False
    """Print the figures as JSON on standard output."""

    def run(self) -> int:
        """Time everything and print it."""
        from dropkit.bench.bench import bench
        from dropkit.bench.tables import print_tables

        record = bench(BenchConfig(**{field.name: getattr(self, field.name) for field in fields(BenchConfig)}), tell)
        if self.json:
            print_out(json_module.dumps(record, indent=1))
        else:
            print_tables(record, Console())
        return DONE
