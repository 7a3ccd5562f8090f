"""The guide: its site builds, its code runs, its commands parse, its figures and quotations are those of its runs."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbclient
import nbformat
import pytest
import tyro

from dropkit.cli import COMMANDS
from dropkit.files import read_json

ROOT = Path(__file__).resolve().parents[1]
DOCS, GUIDE = ROOT / "docs", ROOT / "docs" / "guide"
NOTEBOOK = ROOT / "examples" / "does_dropout_pay.ipynb"
CHAPTERS = sorted(GUIDE.glob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def figures():
    """The script that makes the guide's figures, as a module."""
    sys.path.insert(0, str(GUIDE))
    try:
        import figures
    finally:
        sys.path.remove(str(GUIDE))
    return figures


def blocks(text, language):
    return [block for given, block in FENCED.findall(text) if given == language]


# --- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the documentation was built, with warnings as errors."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-c", "docs", "-d", out / "trees"]
    built = subprocess.run([*command, ".", out / "html"], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return out / "html"


class Page(HTMLParser):
    """What a page of the site links to and can be linked to."""

    def __init__(self, file):
        super().__init__()
        self.links, self.names, self.sources = [], set(), []
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.sources += [given[key] for key in ("src",) if given.get(key)]


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    followed = 0
    for path, page in pages.items():
        for link in (*page.links, *page.sources):
            if link.startswith(("http:", "https:", "data:", "mailto:")) or path.name == "search.html":
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert file.exists(), f"{path.relative_to(site)}: {link}"
            if anchor and file.suffix == ".html":
                assert anchor in pages[file].names, f"{path.relative_to(site)}: {link}"
                followed += 1
    assert followed > 500


def test_the_sites_root_leads_to_the_first_page(site):
    assert 'content="0; url=docs/index.html"' in (site / "index.html").read_text()


def test_the_contents_name_every_page():
    listed = re.findall(r"^- \[.+?\]\((.+?)\)", (DOCS / "index.md").read_text(), re.MULTILINE)
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), NOTEBOOK]
    assert {(DOCS / link).resolve() for link in listed} == set(pages) - {DOCS / "index.md"}
    assert len(listed) == len(set(listed))


def test_pictures_of_the_guide_are_all_shown(site):
    shown = {Path(name).name for chapter in CHAPTERS for name in re.findall(r"!\[.+?\]\((.+?)\)", chapter.read_text())}
    assert {path.name for path in (GUIDE / "images").iterdir()} <= shown
    assert {path.name for path in (GUIDE / "images").iterdir()} <= {path.name for path in (site / "_images").iterdir()}


# --- the chapters


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_python_runs(chapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"folder": tmp_path}
    for block in blocks(chapter.read_text(), "python"):
        exec(compile(block, str(chapter), "exec"), namespace)


def test_most_chapters_have_python():
    assert sum(bool(blocks(chapter.read_text(), "python")) for chapter in CHAPTERS) >= 7


def commands():
    """Return each command of dropkit that a chapter shows, on a line of its own or within a sentence."""
    for chapter in CHAPTERS:
        text = chapter.read_text()
        lines = [line for block in blocks(text, "") for line in block.splitlines()]
        lines += re.findall(r"`(dropkit [^`]+)`", FENCED.sub("", text))
        yield from (line.partition("  #")[0].strip() for line in lines if line.startswith("dropkit "))


WHOLE = [command for command in dict.fromkeys(commands()) if len(shlex.split(command)) > 2]


@pytest.mark.parametrize("command", WHOLE)
def test_commands_parse(command):
    words = shlex.split(command)[1:]
    assert tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="dropkit", args=words) is not None


def test_commands_were_found():
    assert len(WHOLE) >= 8


def test_each_of_the_ten_mistakes_has_a_code_that_its_example_finds():
    text = (GUIDE / "ten-mistakes.md").read_text()
    sections = re.split(r"^## (?=\d)", text.partition("\n## And these")[0], flags=re.MULTILINE)[1:]
    assert [int(section.partition(".")[0]) for section in sections] == list(range(1, 11))
    for section in sections:
        (first, *_) = re.findall(r"\[(DK\d{3})\]\(\.\./check\.md#dk", section)
        assert f'"{first}"' in "".join(blocks(section, "python")), first


def test_the_rows_of_the_mistakes_are_its_sections(figures):
    from sources.mistakes import PAIRS

    text = (GUIDE / "ten-mistakes.md").read_text()
    sections = re.split(r"^## (?=\d)", text.partition("\n## And these")[0], flags=re.MULTILINE)[1:]
    named = [re.findall(r"\[(DK\d{3})\]\(", section)[0] for section in sections]
    assert named == list(PAIRS)


# --- the figures


def test_quotations_are_what_was_measured(figures):
    for chapter in CHAPTERS:
        text = chapter.read_text()
        assert figures.quoted(text, figures.quotes()) == text, f"{chapter.name}: python docs/guide/figures.py --draw"


def test_every_figure_is_quoted_and_shown_in_its_chapter(figures):
    for figure in figures.FIGURES.values():
        text = (GUIDE / figure.chapter).read_text()
        assert f"<!-- measured: {figure.name} -->" in text
        assert f"(images/{figure.name}.svg)" in text
        assert figure.picture.is_file()


def test_pictures_are_drawn_from_what_was_measured(figures):
    for figure in figures.FIGURES.values():
        kept = re.search(r"<desc>(\w+)</desc>", figure.picture.read_text())
        assert kept is not None, figure.name
        assert kept[1] == figure.digest(), f"{figure.name}: python docs/guide/figures.py {figure.name} --draw"


def test_another_figure_has_another_digest(figures):
    figure = figures.FIGURES["evaluations"]
    other = replace(figure, draw=lambda values: figure.draw(values).update_layout(width=701))
    assert other.digest() != figure.digest()


def test_records_name_machine_versions_and_time(figures):
    for figure in figures.FIGURES.values():
        record = read_json(figure.record)
        assert {"cpu", "cores", "python", "torch", "dropkit"} <= set(record["environment"])
        assert record["seconds"] >= 0
        assert record["figure"] == figure.name


def test_quoting_leaves_the_rest_of_a_chapter_alone(figures):
    """An empty quotation once swallowed all text up to the end of the next one."""
    empty = "a\n\n<!-- measured: one -->\n<!-- end -->\n\nb\n\n<!-- measured: two -->\n\nold\n\n<!-- end -->\nc\n"
    made = figures.quoted(empty, {"one": lambda: "1\n", "two": lambda: "2"})
    assert re.findall(r"^\w+$", made, re.MULTILINE) == ["a", "1", "b", "2", "c"]
    assert figures.quoted(made, {"one": lambda: "1\n", "two": lambda: "2"}) == made


def test_a_measurement_gives_what_is_drawn_and_quoted(figures):
    figure = figures.FIGURES["thinned-networks"]
    values = figures.shortened(figure.measure())
    assert figure.draw(values).data
    assert values.keys() == figure.values().keys()
    assert "active units" in figure.quote(values)


def test_the_script_names_its_figures():
    script = [sys.executable, GUIDE / "figures.py"]
    listed = subprocess.run([*script, "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert "page" in listed
    assert len(listed) >= 12
    refused = subprocess.run([*script, "no-such"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no figure is called no-such: --list prints their names" in refused.stderr


# --- the notebook


def test_the_notebook_runs_and_says_what_it_said(tmp_path):
    book = nbformat.read(NOTEBOOK, as_version=4)
    kept, shown = [printed(cell) for cell in book.cells], pictures(book)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=400, resources=place, kernel_name="python3").execute()
    made = [printed(cell) for cell in book.cells]
    numbers = re.compile(r"[-+−±]?\d[\d.,]*%?")
    assert [len(text.splitlines()) > 0 for text in made] == [len(text.splitlines()) > 0 for text in kept]
    for new, old in zip(made[:6], kept[:6], strict=True):  # masks and surgery are the same on every machine
        assert numbers.sub("0", new) == numbers.sub("0", old)
    assert "dropkit train digits" in "".join(made)
    assert pictures(book) == shown == 4


def printed(cell):
    return "".join(out["text"] for out in cell.get("outputs", []) if out["output_type"] == "stream")


def pictures(book):
    return sum("image/png" in out.get("data", {}) for cell in book.cells for out in cell.get("outputs", []))
