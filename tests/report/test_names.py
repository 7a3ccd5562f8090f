"""Names that users wrote, made safe to show."""

import unicodedata

import pytest

from dropkit.report.names import distinct, isolated, label, plain, short


@pytest.mark.parametrize("name", ["x" * 101, "a,b c," * 17, "ü" * 40, "", " ", ","])
def test_labels_break_into_short_lines_and_keep_every_letter(name: str) -> None:
    lines = label(name, 40).split("<br>")
    assert max(map(len, lines)) <= 40
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")


@pytest.mark.parametrize("mark", ["\u202a", "\u202b", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"])
def test_a_mark_that_turns_the_text_is_replaced_by_one_that_is_seen(mark: str) -> None:
    assert unicodedata.category(mark) == "Cf"
    assert plain(f"cat{mark}gnp") == "cat\ufffdgnp"
    assert mark not in label(f"cat{mark}gnp")


@pytest.mark.parametrize("text", ["a\nb\tc", "é 漢 שלום", "family \U0001f468\u200d\U0001f469", "a\u200eb"])
def test_what_turns_nothing_stays(text: str) -> None:
    assert plain(text) == text


def test_unseen_controls_are_shown() -> None:
    assert plain("a\x00b\x1bc\x7fd\u2028e") == "a\ufffdb\ufffdc\ufffdd\ufffde"


def test_a_name_that_reads_from_the_right_is_set_apart_and_others_are_left_alone() -> None:
    assert isolated("fc=0.5") == "fc=0.5"
    assert isolated("שלום") == "\u2068שלום\u2069"
    assert label("שלום") == "\u2068שלום\u2069"


def test_labels_escape_html_quotes_and_line_ends() -> None:
    assert label("<a href='x'>\"b\"\n&c</a>") == "&lt;a href='x'&gt;\"b\" &amp;c&lt;/a&gt;"


def test_short_names_keep_their_beginning_on_one_line() -> None:
    assert short("a\n  b", 7) == "a b"
    assert short("x" * 7, 7) == "x" * 7
    assert short("x" * 8, 7) == "x" * 6 + "…"


def test_names_that_are_the_same_are_told_apart_even_from_those_that_look_numbered() -> None:
    names = distinct(["a", "a (2)", "a", "a"])
    assert names == ["a", "a (2)", "a (3)", "a (4)"]
