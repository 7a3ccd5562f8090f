import pytest

from dropkit.data.names import printable, storable


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "\rback", "\u202eturned", "\x9b2J", "\udce9"])
def test_what_moves_the_cursor_or_colours_is_spelled_out(name):
    shown = printable(name)
    assert shown.isprintable()
    assert shown != name


def test_names_that_are_printable_stay():
    assert printable("käse 猫 it's.png") == "käse 猫 it's.png"


def test_bytes_that_are_no_utf8_can_be_stored():
    assert storable("caf\udce9\n") == "caf\\xe9\n"
    storable("caf\udce9").encode()
    assert storable("käse\n") == "käse\n"
