"""What is printed of evidence: tables that no terminal squeezes, a sentence for each claim, what has to be known."""

import pytest
from rich.console import Console

from dropkit.studies.evidence.comparison import compared
from dropkit.studies.evidence.output import print_evidence


@pytest.fixture
def record(evidence_of):
    def make(groups):
        return {"pictures": 1234, "halves": 10, "policies": compared(groups)}

    drops = [evidence_of.layer(rate=0.5, cost=0.01)]
    pairs = {"none": [evidence_of("none", gap=gap) for gap in (0.5, 0.8, 0.7)]}
    pairs["fc=0.5"] = [evidence_of("fc=0.5", gap=gap, layers=drops) for gap in (0.1, 0.2, 0.3)]
    make.pairs = pairs
    return make


def printed(record, width=80):
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        print_evidence(record, console)
    return captured.get()


def cells(text, first):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0] == first]


def test_numbers_stand_in_their_columns_with_their_spread(record):
    text = printed(record(record.pairs))
    assert "the networks, on 1,234 test pictures; means of runs, ± half of the 95% interval" in text
    networks, layer = cells(text, "fc=0.5")
    assert networks[:2] == ["fc=0.5", "3"]
    assert networks[2:4] == ["7.0 ±0.0", "0.200 ±0.248"]  # 4.303 * .1 / sqrt(3)
    assert networks[4:8] == ["10.00% ±0.00", "20.00% ±0.00", "12.00% ±0.00", "10.00% ±0.00"]
    assert layer[1:4] == ["fc[0]", "5", "0.5"]
    assert layer[7] == "7.00%"  # the deviation over halves has no interval
    plain, _ = cells(text, "none")
    assert plain[5:8] == ["-", "-", "-"]


def test_every_claim_is_a_line_below_its_policy(record):
    text = printed(record(record.pairs))
    claims = record(record.pairs)["policies"][1]["claims"]
    place = text.splitlines().index("fc=0.5:")
    assert text.splitlines()[place + 1 : place + 1 + len(claims)] == [f"  {claim['sentence']}" for claim in claims]
    assert "none has no thinned networks: it was trained without dropout" in text


def test_a_narrow_terminal_breaks_no_row(record):
    assert printed(record(record.pairs), width=30) == printed(record(record.pairs), width=200)


def test_one_run_has_numbers_without_spread(record, evidence_of):
    text = printed(record({"fc=0.5": [evidence_of("fc=0.5", layers=[evidence_of.layer(rate=0.5)])]}))
    assert "±" not in text.replace("± half", "")
    assert "means of runs" not in text
    assert "fc=0.5:" not in text  # the only one need not be named above its sentences


def test_what_has_to_be_known_is_said(record, evidence_of):
    noted = {**evidence_of("fc=0.5"), "left_out": ["conv[0]", "conv[1]"], "notes": ["sampled one after the other"]}
    text = printed(record({"none": [evidence_of("none")], "fc=0.5": [noted]}))
    assert "fc=0.5: not measured, to keep it short: conv[0], conv[1]" in text
    assert "note on fc=0.5: sampled one after the other" in text


def test_why_there_are_no_zeros_is_said(record, evidence_of):
    signed = [evidence_of("none", layers=[evidence_of.layer(rectified=False)])]
    assert "note: activations of fc[0] are negative, too." in printed(record({"none": signed}))
    assert "negative" not in printed(record(record.pairs))


def test_brackets_of_a_name_are_no_markup(record, evidence_of):
    text = printed(record({"conv[red]=0.1": [evidence_of("conv[red]=0.1")]}))
    assert cells(text, "conv[red]=0.1")
