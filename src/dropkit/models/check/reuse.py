"""One layer in several places."""

from collections.abc import Iterator

from dropkit.layers.base import DropLayer
from dropkit.models.check.evidence import Evidence
from dropkit.models.check.finding import Finding
from dropkit.models.trace import ModuleCall


def called_again(evidence: Evidence) -> Iterator[Finding]:
    """DK035: a dropkit layer is called more than once in a pass: within `dropkit.keyed` its mask repeats.

    torch.nn's layers draw a fresh mask at each call, and so do dropkit's without a key.
    """
    if evidence.live is None:
        return
    calls: dict[str, list[ModuleCall]] = {}
    for call in evidence.live.calls:
        calls.setdefault(call.path, []).append(call)
    for path, several in calls.items():
        layer = evidence.modules[path]
        if len(several) < 2 or not isinstance(layer, DropLayer) or layer.p == 0:
            continue
        yield Finding(
            "DK035",
            "note",
            path,
            f"{type(layer).__name__} {float(layer.p):g} is called {len(several)} times in a pass"
            f"{_places(evidence, several)}: within dropkit.keyed each call has the same mask",
            "Use one layer for each place where the masks are to be independent",
        )


def _places(evidence: Evidence, calls: list[ModuleCall]) -> str:
    """Name the layers whose results a layer reads: ` (after conv1, fc1)`."""
    makers = [evidence.live_stages.makers(call.reads) for call in calls if call.reads is not None]
    names = [made[-1].module for made in makers if made and made[-1].module]
    return f" (after {', '.join(names)})" if names else ""


RULES = (called_again,)
