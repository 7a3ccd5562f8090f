"""The trials of a search: lines, rungs, names, the caption's numbers, the table."""

from types import ModuleType
from typing import Any

import pytest

from dropkit.report.palette import BASELINE, colour
from dropkit.report.panels import Block
from dropkit.report.trials import apart, frame, trials_block

CHOSEN = "conv=channel:0.15,fc=0.45"


@pytest.fixture
def record(synthetic: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = synthetic.search()
    return made


def block(record: dict[str, Any]) -> Block:
    made = trials_block(record, record["search"])
    assert made is not None
    return made


def figure(record: dict[str, Any]) -> Any:
    return block(record).panes[0].panels[0].figure


def lines(record: dict[str, Any]) -> dict[str, Any]:
    """The figure's lines by the number of the trial, which stands in what a reader sees over them."""
    return {trace.text.split("trial ")[1].split(",")[0]: trace for trace in figure(record).data}


def words(record: dict[str, Any]) -> list[str]:
    return [annotation.text for annotation in figure(record).layout.annotations]


def diverge(trial: dict[str, Any]) -> None:
    figures = ("best_epoch", "val_loss", "val_error", "train_loss", "gap")
    trial.update(status="diverged", epochs=2, curve=[], **dict.fromkeys(figures))


def test_every_trial_is_a_line_over_its_epochs(record: dict[str, Any]) -> None:
    record["search"]["trials"][7]["curve"] = [0.91, None, 0.73]
    drawn = lines(record)
    assert len(drawn) == 30
    assert list(drawn["7"].x) == [1, 2, 3]
    assert list(drawn["7"].y) == [0.91, None, 0.73]
    assert "epoch %{x}: %{y:.3f} nats" in drawn["7"].hovertemplate
    assert drawn["12"].text == f"<b>{CHOSEN}</b><br>trial 12, finished"
    axes = figure(record).layout
    assert (axes.xaxis.title.text, axes.yaxis.title.text) == ("epoch", "validation loss (nats)")
    assert axes.xaxis.range[1] > 40


def test_stopped_finished_and_compared_trials_are_told_apart(record: dict[str, Any]) -> None:
    diverge(record["search"]["trials"][9])
    record["search"]["trials"][9]["curve"] = [1.9, 9.7, None]
    drawn = lines(record)
    stopped, finished, failed = drawn["2"].line, drawn["3"].line, drawn["9"].line
    assert stopped.width < finished.width < drawn["12"].line.width
    assert stopped.color != finished.color
    assert (failed.dash, stopped.dash) == ("dot", None)
    assert [drawn[number].line.color for number in ("0", "1", "12")] == [BASELINE, colour(1), colour(2)]
    assert list(drawn)[-3:] == ["0", "1", "12"]  # over the rest
    assert block(record).named == [("none", BASELINE), ("fc=0.5", colour(1)), (CHOSEN, colour(2))]


def test_the_compared_trials_are_named_at_their_ends(record: dict[str, Any]) -> None:
    assert sorted(words(record)) == ["<b>chosen</b>", "fc=0.5", "none"]
    trial = record["search"]["trials"][12]
    named = next(one for one in figure(record).layout.annotations if one.text == "<b>chosen</b>")
    assert (named.x, named.y) == (40, pytest.approx(trial["curve"][-1]))


def test_a_chosen_policy_is_named_whatever_was_compared(record: dict[str, Any]) -> None:
    record["search"]["chosen"] = {"number": 0, "policy": "none", "losses": [], "mean": 0.4}
    assert "<b>none, chosen</b>" in words(record)
    record["search"]["chosen"] = {"number": 3, "policy": record["search"]["trials"][3]["policy"]}
    assert lines(record)["3"].line.color == colour(3)
    assert lines(record)["12"].line.color == colour(2)


def test_the_first_of_two_trials_of_one_policy_is_named(record: dict[str, Any]) -> None:
    record["search"]["trials"][20]["policy"] = "none"
    assert lines(record)["20"].line.color != BASELINE
    assert lines(record)["0"].line.color == BASELINE


def test_the_rungs_are_dashed_lines(record: dict[str, Any]) -> None:
    shapes = figure(record).layout.shapes
    assert [(shape.x0, shape.x1, shape.line.dash) for shape in shapes] == [(5, 5, "dash"), (14, 14, "dash")]
    made = block(record)
    assert made.legend == "search"
    assert "At each dashed line" in made.meaning
    assert "stopped at epoch 5 and 14" in made.panes[0].panels[0].description
    record["search"]["rungs"] = []
    made = block(record)
    assert made.legend == "search-whole"
    assert "dashed" not in made.meaning
    assert "stopped" not in made.panes[0].panels[0].description
    assert not figure(record).layout.shapes


def test_the_first_epochs_and_what_diverged_do_not_press_the_rest_flat(record: dict[str, Any]) -> None:
    highest = max(max(trial["curve"][4:]) for trial in record["search"]["trials"])
    record["search"]["trials"][9].update(status="diverged", curve=[2.2, 2.3, 2.4, 2.5, 1e9])
    record["search"]["trials"][8]["curve"][0] = 77.0
    low, high = figure(record).layout.yaxis.range
    assert highest < high < 1.2 * highest
    assert low < min(record["search"]["trials"][12]["curve"])


def test_the_caption_holds_the_numbers(record: dict[str, Any]) -> None:
    diverge(record["search"]["trials"][9])
    record["search"]["finalists"] = [
        {"number": 12, "policy": CHOSEN, "loss": 0.371},
        {"number": 3, "policy": "fc=0.3", "loss": None},
    ]
    made = block(record)
    assert made.title == "The search"
    assert made.finding == f"Of 30 policies tried on validation loss, {CHOSEN} was best."
    assert made.notes == [
        "n = 30 trials: 5 finished, 24 stopped early, 1 diverged.",
        "33 trainings took 499 epochs and 3 min 4 s; 30 whole trainings would have taken "
        "1,200 epochs and 7 min 20 s: 58\u00a0% saved.",
        f"Those that came to the end, with their lowest validation loss in nats: {CHOSEN}: 0.371; fc=0.3: –.",
        "Searched: conv (unit, channel, dropblock; rate 0 to 0.5), fc (unit; rate 0 to 0.8), weight decay "
        "(0, 1e-05, 0.0001, 0.001), rates in steps of 0.05.",
    ]


def test_a_search_that_saved_nothing_says_so(record: dict[str, Any]) -> None:
    record["search"]["saved"] = -0.2
    assert block(record).notes[1].endswith("7 min 20 s: nothing saved.")


def test_the_table_has_every_trial_the_lowest_loss_first(record: dict[str, Any]) -> None:
    trials = record["search"]["trials"]
    diverge(trials[9])
    trials[8].update(status="diverged", val_loss=0.01)  # its best epoch, before it diverged
    trials[12].update(val_loss=0.3117, val_error=0.1234, gap=-0.0456, seconds=614.0)
    table = block(record).table
    assert table is not None
    assert list(table.head) == ["Policy", "Trial", "Status", "Epochs", "Val. loss", "Val. error", "Gap", "Time"]
    assert table.rows[0] == [
        CHOSEN, "12", "finished, chosen", "40", "0.312", "12.34\u00a0%", "−0.046", "10 min 14 s"
    ]  # fmt: skip
    losses = [float(row[4]) for row in table.rows[:-2]]
    assert losses == sorted(losses)
    assert {row[1] for row in table.rows} == {str(number) for number in range(30)}
    assert {row[1] for row in table.rows[-2:]} == {"8", "9"}
    assert next(row for row in table.rows if row[1] == "9")[2:7] == ["diverged", "2", "–", "–", "–"]


def test_a_name_is_escaped_and_no_template(record: dict[str, Any]) -> None:
    record["search"]["trials"][4]["policy"] = "<a href='x'>%{x}\u202e"
    drawn = lines(record)["4"]
    assert drawn.text.startswith("<b>&lt;a href='x'&gt;%{x}\ufffd</b>")
    assert "%{x}\ufffd" not in drawn.hovertemplate


def test_parts_may_be_missing(record: dict[str, Any]) -> None:
    bare = {"trials": [{"number": 4, "curve": [0.7]}]}
    made = trials_block({}, bare)
    assert made is not None
    assert made.notes == ["n = 1 trial."]
    assert made.panes[0].panels[0].figure.data[0].mode == "markers"  # a line of one point cannot be seen
    assert trials_block({}, {"trials": [{"number": 0, "status": "diverged", "curve": []}]}) is None
    assert trials_block(record, {}) is None


def test_words_are_pushed_apart_within_the_frame() -> None:
    assert apart([3.0, 1.0, 1.25], 0.5, 9.0) == [3.0, 1.0, 1.5]
    assert apart([5.0, 4.75, 1.0], 0.5, 5.0) == [5.0, 4.5, 1.0]
    assert apart([], 0.5, 5.0) == []


def test_a_frame_has_room_and_leaves_a_lone_spike_out() -> None:
    low, high = frame([1.0, 2.0])
    assert low == pytest.approx(0.93)
    assert high == pytest.approx(2.07)
    assert frame([*(0.01 * step for step in range(101)), 50.0])[1] < 2
    assert frame([3.0]) == (2.5, 3.5)
    assert frame([]) == (0.0, 1.0)
