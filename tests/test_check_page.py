"""docs/check.md has a section for each code; its figures are what examples/misuse.py measures, which check finds."""

import contextlib
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

import dropkit
from dropkit.models.check.codes import CODES

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "check.md").read_text()
SCRIPT = ROOT / "examples" / "misuse.py"
SECTIONS = dict(re.findall(r"^## (DK\d{3}): (?:.+\n)((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
NUMBER = re.compile(r"\d*\.?\d+")
# What check does not see in the network alone: where it is called, and how many processes there are.
OUTSIDE = {"DK006", "DK007"}


@pytest.fixture(scope="module")
def misuses(request):
    """The network and the sentence of each code."""
    with contextlib.suppress(pytest.skip.Exception):
        request.getfixturevalue("libraries")  # for the one misuse that is another library's
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        measured = {code: function() for code, function in runpy.run_path(str(SCRIPT))["MISUSES"].items()}
    torch.set_num_threads(threads)
    return measured


@pytest.fixture
def misuse(code, misuses):
    """The network and the sentence of one code; the test is skipped where its library cannot be imported."""
    model, sentence = misuses[code]
    if model is None and code not in OUTSIDE:
        pytest.skip(sentence)
    return model, sentence


def measured_on_the_page(code):
    (sentence,) = re.findall(r"^\*Measured:\* ((?:.+\n)+)", SECTIONS[code], re.MULTILINE)
    return sentence.replace("\n", " ").strip().removesuffix(".")


def test_every_code_has_a_section_and_a_row():
    headings = re.findall(r"^## (DK\d{3}): (.+)$", PAGE, re.MULTILINE)
    assert headings == [(code, about.title) for code, about in CODES.items()]
    rows = re.findall(r"^\| \[(DK\d{3})\]\(#.+?\) \| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(code, about.severity, about.title) for code, about in CODES.items()]


@pytest.mark.parametrize("code", CODES)
def test_sections_are_whole(code):
    text = SECTIONS[code]
    assert text.count("```python") == 1
    assert "\n*Cure:* " in text


@pytest.mark.parametrize("code", CODES)
def test_figures_are_what_the_script_measures(code, misuse):
    """Machines round otherwise, and a training goes another way then: its figures are about the same."""
    shown, measured = measured_on_the_page(code), misuse[1]
    assert NUMBER.sub("#", shown) == NUMBER.sub("#", measured)
    for one, other in zip(NUMBER.findall(shown), NUMBER.findall(measured), strict=True):
        close = 4 if "." not in one else 0.1  # percent, or what has decimals
        assert float(one) == pytest.approx(float(other), rel=0.3, abs=close)


@pytest.mark.parametrize("code", sorted(set(CODES) - OUTSIDE))
def test_the_check_finds_the_misuse(code, misuse):
    example = torch.rand(37, 64, generator=torch.Generator().manual_seed(0))
    found = {finding.code: finding.severity for finding in dropkit.check(misuse[0], example)}
    assert found[code] == CODES[code].severity


def test_the_script_prints_a_line_for_each_code(monkeypatch, capsys):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["misuse.py", "DK025", "DK031"])
    with torch.random.fork_rng():
        runpy.run_path(str(SCRIPT), run_name="__main__")
    torch.set_num_threads(threads)
    assert [line[:7] for line in capsys.readouterr().out.splitlines()] == ["DK025  ", "DK031  "]


def test_the_first_example_runs():
    code = re.search(r"```python\n(.+?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "docs/check.md", "exec"), {})


def test_snippets_are_python():
    for block in re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL):
        lines = ["def forward(self, x):", *("    " + line for line in block.splitlines())]
        compile("\n".join(lines), "docs/check.md", "exec")
