"""The sections of pictures: the most confident mistakes, and where dropout changed the answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from dropkit.report.details import Details
from dropkit.report.images import read_png
from dropkit.report.numbers import finite, percent, plural, whole
from dropkit.report.panels import Answer, Block, Pane, Shot


def mistakes_block(details: Details) -> Block | None:
    """Return the pictures that are wrong with the most confidence; None where none is known."""
    pictures = details.pictures
    shots = [shot for row in pictures.get("mistakes") or () if (shot := _mistake(details, row)) is not None]
    if not shots:
        return None
    policy, runs = str(pictures.get("policy", "")), pictures.get("runs") or 1
    total = _count(details, "mistakes", len(shots))
    return Block(
        id="mistakes",
        nav="Mistakes",
        title="The most confident mistakes",
        meaning="Pictures that the network is sure of and gets wrong. Look at each: a wrong label, a picture that "
        "people could not tell either, or something the network has yet to learn?",
        panes=[Pane(shots=shots)],
        legend="answers",
        notes=[
            f"The {len(shots)} most confident of {plural(total, 'mistake')} on {_pictures(details)}, {policy}, "
            f"{_over(runs)}. The percent is the confidence in the answer."
        ],
    )


def changes_block(details: Details) -> Block | None:
    """Return the pictures whose answer dropout put right or wrong; None where there are none."""
    against = details.pictures.get("against")
    panes = [_pane(details, key, word) for key, word in (("fixed", "Put right"), ("broken", "Made wrong"))]
    if against is None or not any(pane.shots for pane in panes):
        return None
    policy, first = str(details.pictures.get("policy", "")), str(against)
    fixed, broken = (
        _count(details, key, len(pane.shots)) for key, pane in zip(("fixed", "broken"), panes, strict=True)
    )
    return Block(
        id="changes",
        nav="Changed answers",
        title="Where dropout changed the answer",
        finding=f"Going from {first} to {policy} puts {plural(fixed, 'picture')} right "
        f"and makes {whole(broken)} wrong.",
        meaning="Both networks make mistakes, but not the same ones. What counts is the balance: a policy that puts "
        "more right than it breaks has the lower error.",
        panes=[pane for pane in panes if pane.shots],
        legend="answers",
        named=[(first, _colour(details, first)), (policy, _colour(details, policy))],
        notes=[
            f"{_pictures(details)}, {_over(details.pictures.get('runs') or 1)}; "
            f"{_left_out(panes, (fixed, broken))}those first whose answer moved most."
        ],
    )


def _left_out(panes: Sequence[Pane], counts: Sequence[int]) -> str:
    """Say how many are shown where there are more."""
    cut = [len(pane.shots) for pane, count in zip(panes, counts, strict=True) if count > len(pane.shots)]
    return f"of each kind at most {max(cut)} are shown, " if cut else "all are shown, "


def _pane(details: Details, key: str, word: str) -> Pane:
    shots = [shot for row in details.pictures.get(key) or () if (shot := _change(details, row)) is not None]
    return Pane(id=key, tab=f"{word}: {whole(_count(details, key, len(shots)))}", shots=shots)


def _mistake(details: Details, row: Mapping[str, Any]) -> Shot | None:
    return _shot(details, row, [_answer(details, row, row.get("true"))])


def _change(details: Details, row: Mapping[str, Any]) -> Shot | None:
    names = details.pictures.get("against"), details.pictures.get("policy")
    answers = [
        _answer(details, row.get(key) or {}, row.get("true"), _colour(details, str(name)))
        for key, name in zip(("before", "after"), names, strict=True)
    ]
    return _shot(details, row, answers)


def _answer(details: Details, row: Mapping[str, Any], true: Any, colour: str = "") -> Answer:
    predicted = row.get("predicted")
    confidence = finite(row.get("confidence"))
    return Answer(
        predicted=details.class_name(predicted),
        confidence=""
        if confidence is None
        else f"{100 * confidence:.0f}\u00a0%"
        if confidence < 0.995
        else _near_one(confidence),
        right=predicted == true,
        colour=colour,
    )


def _near_one(confidence: float) -> str:
    """The most confident mistakes are near 100 %: two decimals tell them apart, and never claim certainty."""
    return "> 99.99\u00a0%" if confidence > 0.9999 else percent(confidence)


def _shot(details: Details, row: Mapping[str, Any], answers: Sequence[Answer]) -> Shot | None:
    image = read_png(row.get("image"))
    if image is None:
        return None
    truth, name = details.class_name(row.get("true")), str(row.get("id", ""))
    said = ", then ".join(f"{answer.predicted} ({answer.confidence})" for answer in answers)
    return Shot(image=image, id=name, alt=f"Picture {name}: {truth}, taken for {said}", truth=truth, answers=answers)


def _colour(details: Details, name: str) -> str:
    return next((policy.colour for policy in details.policies if policy.name == name), "")


def _count(details: Details, key: str, least: int) -> int:
    count = (details.pictures.get("counts") or {}).get(key)
    return count if isinstance(count, int) else least


def _pictures(details: Details) -> str:
    n = details.pictures.get("n")
    return f"n = {plural(n, 'test picture')}" if isinstance(n, int) else "n = the test pictures"


def _over(runs: int) -> str:
    return "one run" if runs == 1 else f"mean probabilities over {plural(runs, 'run')}"
