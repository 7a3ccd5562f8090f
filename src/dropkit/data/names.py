"""Names that others gave, such as those of files and classes: made fit to be stored, and to be shown."""

import os


def storable(name: str) -> str:
    r"""Return a file's name with bytes that are no UTF-8 written as \xNN: it can be written to a file.

    >>> storable("caf" + "\udce9")
    'caf\\xe9'
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def printable(text: str) -> str:
    r"""Return a name on one line, without what would move the cursor, colour the terminal or turn the text around.

    >>> printable("a\nb"), printable("café")
    ('a\\nb', 'café')
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
