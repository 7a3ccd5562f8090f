"""The file itself: complete, offline, escaped, whole."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

import dropkit
from dropkit.errors import DropkitError
from dropkit.report.page import _embed, render, write_page

EVIL = "</script><img src=x onerror=alert(1)>\"'\n\u202e"
LOADING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """Tags, attributes that load something, scripts, and the text outside of scripts and style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.meta: dict[str, str] = {}
        self.text = ""
        self._inside: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for key, value in attrs if key in LOADING]
        self.alts += [str(value) for key, value in attrs if key in ("alt", "title", "aria-label")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "meta":
            named = dict(attrs)
            self.meta[str(named.get("http-equiv") or named.get("name"))] = str(named.get("content"))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._inside is None:
            self.text += data


@pytest.fixture(params=["study", "run"])
def record(request: pytest.FixtureRequest, synthetic: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = synthetic.study() if request.param == "study" else synthetic.single_run()
    return made


def test_plotly_is_there_once_and_nothing_is_loaded(record: dict[str, Any]) -> None:
    page = Page(render(record))
    assert sum("Plotly, Inc." in script for _, script in page.scripts) == 1
    assert page.scripts[1][1] == get_plotlyjs()
    assert page.loads[0] == "data:,"
    assert all(re.fullmatch(r"#[a-z-]+", load) for load in page.loads[1:])
    assert not {"iframe", "object", "embed", "base", "img"} & set(page.tags)


def test_pictures_stand_in_the_page_itself(full_study: dict[str, Any]) -> None:
    page = Page(render(full_study))
    pictures = [load for load in page.loads if load.startswith("data:image/png;base64,")]
    assert page.tags.count("img") == len(pictures) == 3 + 12 + 11 + 5  # filters, mistakes, put right, made wrong
    assert {load for load in page.loads if load not in pictures} >= {"data:,", "#results", "#mistakes"}
    assert all(re.fullmatch(r"#[a-z-]+", load) for load in page.loads if load not in {*pictures, "data:,"})
    assert "img-src data: blob:" in page.meta["Content-Security-Policy"]


def test_only_the_two_scripts_of_the_page_may_run(record: dict[str, Any]) -> None:
    page = Page(render(record))
    policy = page.meta["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    allowed = policy.split("script-src ")[1].split(";")[0].split()
    running = [script for attributes, script in page.scripts if attributes.get("type") != "application/json"]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in running]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]
    assert page.handlers == []


def test_every_figure_has_its_place_and_every_place_its_figure(record: dict[str, Any]) -> None:
    text = render(record)
    page = Page(text)
    attributes, figures = page.scripts[0]
    assert attributes == {"type": "application/json", "id": "figures"}
    drawn = json.loads(figures)
    assert len(drawn) == (8 if record["kind"] == "study" else 3)  # forest, 2 x 3 panels, gap; or 2 panels, gap
    assert text.count('class="figure"') == len(drawn)
    assert all(text.count(f'class="figure" id="{name}"') == 1 for name in drawn)
    assert all(set(figure) == {"data", "layout"} for figure in drawn.values())


def poison(value: Any) -> Any:
    """The record with every text that a user could have written made hostile."""
    if isinstance(value, dict):
        return {key: item if key in ("kind", "status", "metric") else poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


def test_hostile_names_stay_text(record: dict[str, Any], synthetic_details: ModuleType) -> None:
    names = tuple(policy["name"] for policy in record.get("policies", [{"name": "fc=0.5"}]))
    record["details"] = synthetic_details.details(names, ["cat", "dog", "owl"], 5)
    evil = poison(record)
    for row in evil["details"]["pictures"]["mistakes"]:
        row["image"] = row["image"].removesuffix(EVIL)
    evil["data"]["classes"] = ["cat", EVIL]
    evil["config"][EVIL] = EVIL
    clean, page = Page(render(record)), Page(render(evil))
    assert page.tags.count("img") == 12  # the pictures that were left whole; nothing that a name brought in
    assert page.handlers == []
    assert len(page.scripts) == len(clean.scripts)
    assert set(page.loads) <= set(clean.loads)
    shown = EVIL.replace("\u202e", "\ufffd")
    assert f"cat, {shown}" in page.text
    assert any(f"cat{shown}" in alt for alt in page.alts)
    assert "\u202e" not in page.text + "".join(page.alts)
    assert "<" not in page.scripts[0][1]  # the figures' JSON cannot end its element
    json.loads(page.scripts[0][1])


def test_figures_cannot_end_their_element_whatever_plotly_escapes() -> None:
    class Drawn:
        id = "a"
        figure = SimpleNamespace(to_json=lambda: json.dumps({"name": EVIL}))

    text = _embed([SimpleNamespace(all_panels=lambda: [Drawn])])
    assert "<" not in text
    assert json.loads(text) == {"a": {"name": EVIL}}


def test_names_in_figures_are_escaped_for_plotly_too(study: dict[str, Any]) -> None:
    names = {policy["name"]: f"<a href='javascript:alert(1)'>{i}</a>" for i, policy in enumerate(study["policies"])}
    for item in (*study["policies"], *study["runs"]):
        item["name" if "name" in item else "policy"] = names[item.get("name", item.get("policy"))]
    drawn = Page(render(study)).scripts[0][1].replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")
    assert "<a" not in drawn
    assert "&lt;a" in drawn


def test_an_unknown_record_is_refused() -> None:
    with pytest.raises(
        DropkitError,
        match=r"unknown kind of record 'studdy': allowed are study, run, reproduction, predictions\. Did you",
    ):
        render({"kind": "studdy"})
    with pytest.raises(DropkitError, match="'None'"):
        render({})


def test_a_page_replaces_the_old_one_and_leaves_nothing_beside_it(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_page({**record, "command": "first"}, path) == path
    assert write_page(record, path) == path
    assert path.read_text(encoding="utf-8") == render(record)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_record_that_fails_leaves_the_old_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(DropkitError):
        write_page({"kind": "study", "policies": []}, path)
    assert path.read_text() == "old"


def test_a_folder_is_no_page(record: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DropkitError, match=r"is a folder: add a name"):
        write_page(record, tmp_path)


def test_folder_names_that_are_not_unicode_are_written(single_run: dict[str, Any], tmp_path: Path) -> None:
    single_run["data"]["name"] = "caf\udce9"  # how Python reads the byte E9 of a file name
    path = write_page(single_run, tmp_path / "report.html")
    assert "caf?" in path.read_text(encoding="utf-8")


def test_the_room_knows_no_torch(single_run: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps(single_run))
    package = Path(str(dropkit.__file__)).parent
    # The package itself may import torch: a bare one stands in, so only what the report imports is seen.
    program = f"""
import importlib, json, pkgutil, sys, types
bare = types.ModuleType("dropkit"); bare.__path__ = [{str(package)!r}]; sys.modules["dropkit"] = bare
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch": raise ImportError("torch was imported")
sys.meta_path.insert(0, NoTorch())
import dropkit.report
for module in pkgutil.iter_modules(dropkit.report.__path__):
    importlib.import_module("dropkit.report." + module.name)
from dropkit.report.page import render
print(len(render(json.load(open({str(tmp_path / "record.json")!r})))), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    size, torch_is_there = done.stdout.split()
    assert int(size) > 1_000_000
    assert torch_is_there == "False"
