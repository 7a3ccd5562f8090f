"""The pages of docs/layers name every layer; their examples run, their policies fit, their pictures are up to date."""

import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dropkit
from dropkit.layers.base import DropLayer
from dropkit.layers.schedule import Schedule
from dropkit.models.kinds import KINDS
from dropkit.models.networks import build
from dropkit.models.policy import Policy
from dropkit.models.surgery import insert

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "layers"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPT = ROOT / "examples" / "draw_masks.py"


def name_of(path):
    return path.stem


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def public_names():
    """Return what a page has to name: layers, functional forms, schedules and what goes with them."""
    exported = {name: getattr(dropkit, name) for name in dropkit.__all__}
    names = {
        f"dropkit.{name}" for name, value in exported.items() if inspect.isclass(value) and issubclass(value, DropLayer)
    }
    names |= {f"dropkit.functional.{name}" for name, _ in inspect.getmembers(dropkit.functional, inspect.isfunction)}
    for name, value in inspect.getmembers(dropkit.schedule, inspect.isclass):
        if issubclass(value, Schedule) and value is not Schedule:
            names.add(f"dropkit.schedule.{name}")
    others = {"max_norm", "linear_rates", "concrete_loss", "schedule.Scheduled", "schedule.parse"}
    return names | {f"dropkit.{name}" for name in others}


def listed_names(page):
    match = re.search(r"^\*\*Names:\*\* ((?:.+\n)+)", page.read_text(), re.MULTILINE)
    assert match is not None, f"{page.name} has no line of names"
    return re.findall(r"`([\w.]+)`", match[1])


FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [block for given, block in FENCED.findall(page.read_text()) if given == language]


def commands(page):
    """Return the words of each `dropkit train` or `dropkit compare` that the page shows."""
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(("dropkit train", "dropkit compare"))]


def option(words, name, default):
    return words[words.index(name) + 1] if name in words else default


def test_every_name_has_one_page():
    listed = [name for page in PAGES for name in listed_names(page)]
    assert sorted(listed) == sorted(public_names())


def test_every_class_that_drops_is_exported():
    def below(cls):
        return {cls, *(deeper for sub in cls.__subclasses__() for deeper in below(sub))}

    layers = [
        cls for cls in below(DropLayer) if cls.__module__.startswith("dropkit.") and not cls.__name__.startswith("_")
    ]
    assert len(layers) > 10
    assert {cls.__name__ for cls in layers} - {"DropLayer"} <= set(dropkit.__all__)


def test_the_index_has_every_page_and_every_layer():
    index = (FOLDER / "README.md").read_text()
    rows = dict(re.findall(r"^\| \[[\w-]+\]\(([\w-]+)\.md\) (\|.*)$", index, re.MULTILINE))
    assert sorted(rows) == [page.stem for page in PAGES]
    for page in PAGES:
        for name in listed_names(page):
            short = name.removeprefix("dropkit.")
            if short[0].isupper():
                assert f"`{short}`" in rows[page.stem]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_has_its_picture(page):
    pictures = re.findall(r"!\[(.+?)\]\((.+?)\)", page.read_text())
    assert [path for _, path in pictures] == [f"images/{page.stem}.png"]
    file = FOLDER / "images" / f"{page.stem}.png"
    assert file.stat().st_size < 60_000
    assert pixels(file).shape[1] == 900


def test_no_picture_is_left_over():
    assert sorted(path.stem for path in (FOLDER / "images").iterdir()) == [page.stem for page in PAGES]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", document.read_text())):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            file = document.parent / path if path else document
            assert file.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_runs(page):
    code = blocks(page, "python")
    assert code
    namespace = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in code:
            exec(compile(block, str(page), "exec"), namespace)
    used = {name for name in listed_names(page) if name.removeprefix("dropkit.")[0].isupper()}
    assert all(name in "".join(code) for name in used)


def test_policies_fit_their_networks():
    shown = [words for page in (*PAGES, FOLDER / "README.md") for words in commands(page)]
    policies = [(option(words, "--model", "cnn"), option(words, "--dropout", None)) for words in shown]
    kinds = set()
    for model, text in policies:
        if text is not None:
            policy = Policy.parse(text)
            insert(build(model, input_shape=(1, 28, 28), num_classes=10), policy)
            kinds |= {item.kind for item in policy.items}
    assert kinds == set(KINDS)


def test_policies_in_running_text_parse():
    for page in (*PAGES, FOLDER / "README.md"):
        for text in re.findall(r'--dropout "(.+?)"', page.read_text()):
            assert Policy.parse(text).items


def test_schedules_in_commands_parse():
    shown = [option(words, "--schedule", None) for page in PAGES for words in commands(page)]
    named = [text for text in shown if text is not None]
    assert named
    assert all(isinstance(dropkit.schedule.parse(text), Schedule) for text in named)
    for page in PAGES:
        for words in commands(page):
            assert ("--schedule" in words) <= ("--epochs" in words)


def test_pictures_are_what_the_script_draws(tmp_path, monkeypatch, capsys):
    """Machines may round otherwise here and there, and Pillow's font has versions: a few pixels may differ."""
    monkeypatch.setattr(sys, "argv", ["draw_masks.py", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    drawn = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(path.stem for path in drawn) == [page.stem for page in PAGES]
    for path in drawn:
        new, old = (pixels(folder / path.name) for folder in (tmp_path, FOLDER / "images"))
        assert new.shape == old.shape, path.name
        different = (np.abs(new - old) > 24).any(axis=2).mean()
        assert different < 0.02, path.name
