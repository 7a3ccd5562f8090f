"""Names as users wrote them, made safe to show: what would turn the text around is replaced, plotly's HTML escaped."""

import html
import re
import unicodedata

# Characters that turn the direction of what follows them, and controls that no reader can see. A mark of direction
# (U+200E, U+200F) and the joiners stay: scripts and emoji need them, and they reach no further than the name.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"


def plain(text: str) -> str:
    """Return a text with characters that turn its direction, or that cannot be seen, replaced by a visible mark.

    >>> plain("cat\\u202egnp.exe")
    'cat\\ufffdgnp.exe'
    """
    return _UNSEEN.sub("\ufffd", text)


def short(text: str, width: int) -> str:
    """Return a text on one line of at most `width` characters, the rest as an ellipsis.

    >>> short("ankle  boot\\nworn", 12)
    'ankle boot…'
    """
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def isolated(text: str) -> str:
    """Return a text that cannot reorder what stands beside it: a name that reads from the right is set apart."""
    turns = any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in text)
    return f"{_ISOLATE}{text}{_END_OF_ISOLATE}" if turns else text


def label(text: str, width: int = 40) -> str:
    """Return a user's text for plotly, which reads a subset of HTML: plain, escaped, and broken into lines.

    Quotes stay: no label stands inside an attribute, and plotly would show their entities as they are.

    Lines end after a comma or a space where they can, as the items of a policy do.

    >>> label("a<b"), label("conv=0.25,fc=0.5", width=12)
    ('a&lt;b', 'conv=0.25,<br>fc=0.5')
    """
    lines = [""]
    for word in re.split(r"(?<=[,\s])", plain(re.sub(r"\s", " ", text))):
        for piece in (word[start : start + width] for start in range(0, len(word), width)):
            if len(lines[-1]) + len(piece) <= width:
                lines[-1] += piece
            else:
                lines.append(piece)
    return "<br>".join(isolated(html.escape(line.strip(), quote=False)) for line in lines if line.strip())


def distinct(texts: list[str]) -> list[str]:
    """Return the texts, those that came before told apart by a number: plotly merges categories of one name.

    >>> distinct(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: set[str] = set()
    result = []
    for text in texts:
        name, again = text, 1
        while name in seen:
            again += 1
            name = f"{text} ({again})"
        seen.add(name)
        result.append(name)
    return result
