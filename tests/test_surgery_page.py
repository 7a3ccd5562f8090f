"""The examples of docs/surgery.md print what the page says."""

import doctest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "surgery.md"


def test_the_page_s_examples_are_true():
    # Markdown's fences would count as expected output.
    text = "\n".join("" if line.startswith("```") else line for line in PAGE.read_text(encoding="utf-8").splitlines())
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 8
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0
