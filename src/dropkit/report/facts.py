"""What a page says at its foot: the data, the configuration, the machine. The same for a run and a study."""

import json
from collections.abc import Mapping
from typing import Any

from dropkit.report.numbers import DASH, duration, plural, whole

Facts = list[tuple[str, str]]


def text(value: Any) -> str:
    """Return a value of a record as text: None as a dash, nested values as JSON."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def data_facts(record: Mapping[str, Any]) -> Facts:
    """Return name, number and size of the pictures, classes and the sizes of the splits."""
    data = record.get("data") or {}
    shape = data.get("shape") or ()
    size = " × ".join(str(n) for n in (*shape[1:], *shape[:1]))
    classes = data.get("classes")
    if isinstance(classes, (list, tuple)):
        classes = f"{len(classes)}: {', '.join(map(str, classes))}"
    splits = ", ".join(f"{whole(data.get(part))} {part}" for part in ("train", "val", "test"))
    known = {"name", "pictures", "classes", "train", "val", "test", "shape"}
    return [
        ("name", text(data.get("name"))),
        ("pictures", whole(data.get("pictures"))),
        ("size", f"{size} (height × width × colours)" if size else DASH),
        ("classes", text(classes)),
        ("splits", splits),
        *((str(key), _listed(value)) for key, value in data.items() if key not in known),
    ]


def _listed(value: Any) -> str:
    """Return names, or numbers with three significant digits, one after the other; anything else as text."""
    if not isinstance(value, (list, tuple)) or not value:
        return text(value)
    if all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        return ", ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in value)
    return text(value)


def mapping_facts(record: Mapping[str, Any], key: str) -> Facts:
    """Return the fields of `config` or `environment` in the record's order."""
    return [(str(name), text(value)) for name, value in (record.get(key) or {}).items()]


def page_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every page's header and footer show."""
    environment = record.get("environment") or {}
    return {
        "version": text(record.get("dropkit") or environment.get("dropkit")),
        "data_name": text((record.get("data") or {}).get("name")),
        "command": str(record.get("command") or ""),
        "took": duration(record.get("seconds")),
        "groups": [
            ("Data", data_facts(record)),
            ("Configuration", mapping_facts(record, "config")),
            ("Environment", mapping_facts(record, "environment")),
        ],
    }


def tested_on(record: Mapping[str, Any]) -> str:
    """Return how many test pictures the numbers stand on."""
    count = (record.get("data") or {}).get("test")
    folds = (record.get("folds") or {}).get("k")
    if folds:
        return f"each of {folds} folds in turn"
    return plural(count, "test picture") if isinstance(count, int) else "the test pictures"


def cautions(record: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know about the test pictures before believing the numbers."""
    data = record.get("data") or {}
    found = []
    if folds := record.get("folds"):
        repeated = f", {plural(folds['repetitions'], 'time')}" if (folds.get("repetitions") or 1) > 1 else ""
        found.append(
            f"Cross-validation: every picture is a test picture in one of {folds.get('k')} folds{repeated}. The "
            "intervals allow for the training pictures that the folds share (corrected resampled t-test, Nadeau and "
            "Bengio 2003)."
        )
    if _count(data, "duplicates"):
        found.append(
            f"{_are(data['duplicates'], 'test picture')} byte for byte the same as a training picture: new pictures "
            "will be harder than these numbers say."
        )
    if _count(data, "skipped"):
        found.append(
            f"{_are(data['skipped'], 'file')} skipped: no picture could be read from {_them(data['skipped'])}."
        )
    if _count(record, "look_count") > 1 and not _unjudged(record):
        found.append(
            f"These test pictures were looked at {record['look_count']} times in this study: the more often, the more "
            "a good result owes to chance."
        )
    return found


def _unjudged(record: Mapping[str, Any]) -> bool:
    """Whether no policy has a verdict, because none was trained long enough or to its end."""
    kinds = {(policy.get("verdict") or {}).get("kind") for policy in (record.get("policies") or ())[1:]}
    return bool(kinds) and kinds <= {"undertrained", "diverged"}


def _count(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    return value if isinstance(value, int) else 0


def _are(count: int, noun: str) -> str:
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
