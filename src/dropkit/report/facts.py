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
        *((str(key), text(value)) for key, value in data.items() if key not in known),
    ]


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
    return plural(count, "test picture") if isinstance(count, int) else "the test pictures"
