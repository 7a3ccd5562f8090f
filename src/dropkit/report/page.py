"""The page: a record rendered as one HTML file that needs nothing else, no network and no second file."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from dropkit.errors import DropkitError, unknown
from dropkit.files import make_folder, write_atomic
from dropkit.report.names import plain
from dropkit.report.predictions import predictions_view
from dropkit.report.reproduction import reproduction_view
from dropkit.report.run import run_view
from dropkit.report.study import study_view

VIEWS = {"study": study_view, "run": run_view, "reproduction": reproduction_view, "predictions": predictions_view}


def write_page(record: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a record, whole or not at all, and return its path.

    Args:
        record: What `study.json`, `reproduction.json` or a run's record holds, or predictions; `kind` is "study",
            "reproduction", "run" or "predictions".
        path: The HTML file to write or to replace; its folder is made where it is missing.

    Raises:
        DropkitError: if the record is of no known kind, or the path cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_page({"kind": "run", "policy": "fc=0.5"}, Path(folder) / "report.html").name
        'report.html'
    """
    page = render(record)
    path = Path(path)
    if path.is_dir():
        raise DropkitError(f"the page must be a file, but {str(path)!r} is a folder: add a name such as report.html")
    make_folder(path.parent)
    # A folder's name need not be valid Unicode: what cannot be written becomes a question mark.
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def render(record: Mapping[str, Any]) -> str:
    """Return the page of a record as HTML. The same record always gives the same page.

    Raises:
        DropkitError: if the record is of no known kind or lacks what the page is about.

    Example:
        >>> "<title>digits" in render({"kind": "run", "data": {"name": "digits"}})
        True
    """
    kind = record.get("kind")
    if kind not in VIEWS:
        raise unknown("kind of record", str(kind), VIEWS)
    view = VIEWS[kind](record)
    template = _environment().get_template(f"{kind}.html.jinja")
    drawing = Markup(_resource("page.js"))
    # Plotly is most of a page: one without figures does without.
    plotly = _plotly() if any(True for block in view["blocks"] for _ in block.all_panels()) else Markup("")
    return template.render(
        **view,
        css=Markup(_resource("page.css")),
        plotly=plotly,
        drawing=drawing,
        figures=_embed(view["blocks"]),
        policy_of_content=_content_policy(*filter(None, (plotly, drawing))),
    )


def _embed(blocks: Any) -> Markup:
    """Return the figures as JSON that no name inside it can end: `<`, `>` and `&` are written as escapes."""
    drawn = (f'"{panel.id}":{panel.figure.to_json()}' for block in blocks for panel in block.all_panels())
    text = "{" + ",\n".join(drawn) + "}"
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _content_policy(*scripts: str) -> str:
    """Return a content security policy: nothing is loaded, and only these scripts run.

    So even a name that slipped through the escaping could neither run code nor reach the network.
    """
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


@cache
def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _plotly() -> Markup:
    """Return plotly.js, safe inside a script element and with line ends as an HTML parser leaves them."""
    return Markup(get_plotlyjs().replace("\r\n", "\n").replace("</script", "<\\/script"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dropkit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    return environment


def _written(value: Any) -> Any:
    """What the template writes, whatever it is: no name may turn the direction of the text around it."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _prose(text: str) -> Markup:
    """A sentence that may hold a policy: a long one breaks after its commas, not in the middle of an item."""
    return Markup(escape(plain(text)).replace(",", Markup(",<wbr>")))


def _resource(name: str) -> str:
    return (resources.files("dropkit.report") / "templates" / name).read_text(encoding="utf-8")
