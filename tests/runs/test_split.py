import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.runs.pictures import Part, Pictures, join, load
from dropkit.runs.split import Split, make_split

DATA = Path(__file__).parents[3] / "shared" / "data"


def distinct(count, first=0):
    """Return so many pictures of 1x1x3, no two alike: the number in base 256."""
    number = np.arange(first, first + count)
    return np.stack([number % 256, number // 256 % 256, number // 65536], axis=1).astype(np.uint8)[:, None, None]


def part(labels, split=None, contents=None, first=0):
    """Return a part with these labels; pictures with one content are byte-identical."""
    contents = np.arange(len(labels)) if contents is None else np.array(contents)
    ids = tuple(f"{split}[{i}]" for i in range(len(labels)))
    return Part(split, distinct(len(labels), first)[contents], np.array(labels, dtype=np.int64), ids)


def pictures_of(*parts):
    classes = 1 + max(int(one.labels.max()) for one in parts)
    return join("made up", parts, [f"class {i}" for i in range(classes)])


def by_class(counts, seed=0):
    """Return pictures with so many of each class, in random order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return pictures_of(part(np.random.default_rng(seed).permutation(labels)))


def sides(split):
    return {"train": split.train, "val": split.val, "test": split.test}


def counted(pictures, indices):
    return np.bincount(pictures.labels.numpy()[indices], minlength=pictures.classes)


def check_partition(split, count):
    """Every picture is on one side, and the sides are sorted."""
    together = np.concatenate(list(sides(split).values()))
    assert np.array_equal(np.sort(together), np.arange(count))
    for indices in sides(split).values():
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()


counts = st.lists(st.integers(3, 60), min_size=2, max_size=11)
seeds = st.integers(0, 2**64)


@given(counts, seeds)
def test_distinct_pictures_are_divided_70_15_15_in_every_class(counts, seed):
    pictures = by_class(counts)
    split = make_split(pictures, seed=seed)
    check_partition(split, sum(counts))
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        got = counted(pictures, sides(split)[name])
        wanted = np.array(counts) * share
        assert (got >= 1).all()
        # below 7 a class gives more than its share, so that it is in each split
        assert (np.abs(got - wanted) < 1)[np.array(counts) >= 7].all()
    if min(counts) >= 7:
        held = round(0.3 * sum(counts) + 1e-9)
        assert abs(len(split.val) + len(split.test) - held) <= 1
        assert 0 <= len(split.val) - len(split.test) <= 1


@given(counts, seeds, st.sampled_from(["val", "test"]))
def test_one_missing_split_is_15_percent_of_train_and_the_other_stays(counts, seed, missing):
    kept = "test" if missing == "val" else "val"
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    pictures = pictures_of(part(labels, "train"), part([0, 1, 1, 0, 1], kept, first=10_000))
    split = make_split(pictures, seed=seed)
    check_partition(split, len(pictures))
    assert sides(split)[kept].tolist() == list(range(sum(counts), sum(counts) + 5))
    got = counted(pictures, sides(split)[missing])
    assert (got >= 1).all()
    assert (np.abs(got - np.array(counts) * 0.15) < 1).all()


def test_given_splits_stay_as_they_came():
    given = [part([0, 1, 1], "train"), part([0, 1], "val", first=50), part([0], "test", first=90)]
    split = make_split(pictures_of(*given), seed=0)
    assert [side.tolist() for side in sides(split).values()] == [[0, 1, 2], [3, 4], [5]]
    assert split.how == "train, val and test as they came with the data."


def test_train_alone_is_divided_as_data_without_splits_are():
    labels = np.arange(60) % 3
    alone, without = (make_split(pictures_of(part(labels, name)), seed=5) for name in ("train", None))
    assert [len(side) for side in sides(alone).values()] == [42, 9, 9]
    assert all(np.array_equal(a, b) for a, b in zip(sides(alone).values(), sides(without).values(), strict=True))


@st.composite
def repeated(draw):
    """Return the content and the label of each picture: contents repeat, and may differ in label."""
    classes = draw(st.integers(2, 4))
    contents, labels = [], []
    for label in range(classes):
        for size in draw(st.lists(st.integers(1, 9), min_size=3, max_size=12)):
            content = contents[-1] + 1 if contents else 0
            contents += [content] * size
            labels += [label] * size
    for _ in range(draw(st.integers(0, 5))):  # the same picture once more, under any label
        contents.append(draw(st.sampled_from(contents)))
        labels.append(draw(st.integers(0, classes - 1)))
    return contents, labels


@given(repeated(), seeds)
def test_identical_pictures_stay_together_and_every_class_is_everywhere(drawn, seed):
    contents, labels = drawn
    pictures = pictures_of(part(labels, contents=contents))
    split = make_split(pictures, seed=seed)
    check_partition(split, len(labels))
    held = [set(np.array(contents)[side].tolist()) for side in sides(split).values()]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    for side in sides(split).values():
        assert (counted(pictures, side) >= 1).all()


def test_a_large_group_goes_where_there_is_room():
    labels = [0] * 100 + [1] * 100
    contents = [0] * 60 + list(range(60, 200))
    pictures = pictures_of(part(labels, contents=contents))
    for seed in range(5):
        split = make_split(pictures, seed=seed)
        assert split.train[:60].tolist() == list(range(60))
        assert counted(pictures, split.train).tolist() == [70, 70]


@given(seeds, st.none() | st.integers(3, 40))
def test_the_same_seed_gives_the_same_split(seed, max_train):
    pictures = by_class([20, 30, 11])
    once, again = (make_split(pictures, seed=seed, max_train=max_train) for _ in range(2))
    assert once.to_json(pictures) == again.to_json(pictures)


def sides_as_lists(split):
    return {name: side.tolist() for name, side in sides(split).items()}


def test_the_split_of_a_seed_stays_what_it_was():
    split = make_split(pictures_of(part([0, 1] * 7)), seed=7)
    assert sides_as_lists(split) == {
        "train": [0, 3, 4, 6, 7, 9, 10, 11, 12, 13],
        "val": [2, 5],
        "test": [1, 8],
    }


def test_every_picture_is_held_out_as_often_as_any_other():
    pictures, draws = by_class([20, 20]), 400
    held = np.zeros(40)
    for seed in range(draws):
        held[make_split(pictures, seed=seed).test] += 1
    # 3 of 20 in each class: 0.15, binomial; 5 standard errors
    assert np.abs(held / draws - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / draws)


@given(st.lists(st.integers(7, 60), min_size=2, max_size=7), seeds, st.data())
def test_max_train_cuts_by_class_and_leaves_the_test_split(counts, seed, data):
    pictures = by_class(counts)
    whole = make_split(pictures, seed=seed)
    wanted = data.draw(st.integers(len(counts), len(whole.train)))
    split = make_split(pictures, seed=seed, max_train=wanted)
    assert len(split.train) == wanted
    assert np.isin(split.train, whole.train).all()
    assert np.isin(split.val, whole.val).all()
    assert np.array_equal(split.test, whole.test)
    in_proportion = len(whole.val) * wanted / len(whole.train)
    assert len(split.val) == len(counts) or abs(len(split.val) - in_proportion) < 0.5 + 1e-9
    assert len(split.val) >= in_proportion - 0.5 - 1e-9
    for name in ("train", "val"):
        before, after = sides(whole)[name], sides(split)[name]
        share = counted(pictures, before) * len(after) / len(before)
        got = counted(pictures, after)
        assert (got >= 1).all()
        if (share >= 1).all():  # else the rare classes are lifted to one picture, at the others' cost
            assert (np.abs(got - share) < 1).all()


def test_max_train_of_all_there_is_changes_nothing():
    pictures = by_class([20, 20])
    whole, cut = make_split(pictures, seed=3), make_split(pictures, seed=3, max_train=28)
    assert sides_as_lists(whole) == sides_as_lists(cut)


def test_max_train_leaves_given_splits_whole():
    parts = [part([0, 1] * 20, "train"), part([0, 1] * 3, "val", first=50), part([0, 1], "test", first=90)]
    split = make_split(pictures_of(*parts), seed=0, max_train=10)
    assert [len(side) for side in sides(split).values()] == [10, 6, 2]


def test_max_train_keeps_every_picture_as_often_as_any_other():
    parts = [part([0, 1] * 10, "train"), part([0, 1], "val", first=50), part([0, 1], "test", first=90)]
    pictures, draws = pictures_of(*parts), 400
    kept = np.zeros(20)
    for seed in range(draws):
        kept[make_split(pictures, seed=seed, max_train=6).train] += 1
    # 3 of 10 in each class: 0.3, binomial; 5 standard errors
    assert np.abs(kept / draws - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / draws)


def test_how_says_where_each_split_came_from():
    pictures = pictures_of(part([0, 1] * 20, "train"), part([0, 1], "test", first=90))
    how = make_split(pictures, seed=0, max_train=10).how
    assert how.startswith("test as it came with the data; val made: 15 % of 40 training pictures, stratified")
    assert "Of 34 training pictures 10 were kept: train and val cut" in how
    assert make_split(by_class([9, 9]), seed=0).how.startswith("train, val and test made: 70/15/15 of 18 pictures")


def refused(pictures, *fragments, **options):
    with pytest.raises(DropkitError) as error:
        make_split(pictures, **({"seed": 0} | options))
    for fragment in fragments:
        assert fragment in str(error.value)


def test_classes_too_small_for_three_splits_are_named():
    refused(by_class([9, 2, 9, 1]), "3 distinct pictures or more", "'class 1' has 2", "'class 3' has 1")


def test_copies_do_not_make_a_class_large_enough():
    pictures = pictures_of(part([0] * 5 + [1] * 5, contents=[0, 1, 2, 3, 4, 5, 5, 5, 6, 6]))
    refused(pictures, "'class 1' has 2")


def test_two_pictures_are_enough_where_one_split_is_made():
    pictures = pictures_of(part([0, 0, 1, 1], "train"), part([0, 1], "test", first=90))
    split = make_split(pictures, seed=0)
    assert counted(pictures, split.train).tolist() == counted(pictures, split.val).tolist() == [1, 1]
    refused(pictures_of(part([0, 0, 1], "train"), part([0, 1], "test", first=90)), "2 distinct", "'class 1' has 1")


def test_many_small_classes_are_counted():
    refused(by_class([1] * 8), "'class 4' has 1 and 3 more classes")


@pytest.mark.parametrize(
    ("max_train", "fragments"),
    [
        (15, ["max_train is 15", "only 14 pictures", "14 or less"]),
        (1, ["max_train is 1", "2 classes", "2 or more"]),
        (0, ["max_train is 0", "1 or more"]),
        (2.5, ["max_train is 2.5", "whole number"]),
        (True, ["max_train is True", "whole number"]),
    ],
)
def test_a_max_train_that_cannot_be_is_refused(max_train, fragments):
    refused(by_class([10, 10]), *fragments, max_train=max_train)


@pytest.mark.parametrize("seed", [-1, 0.5, "7", None])
def test_a_seed_that_cannot_be_is_refused(seed):
    refused(by_class([10, 10]), f"seed is {seed!r}", "whole number, 0 or more", seed=seed)


def stored(pictures, **options):
    """Return a split as it comes back from a file."""
    split = make_split(pictures, **({"seed": 11} | options))
    return split, json.loads(json.dumps(split.to_json(pictures)))


def test_a_stored_split_comes_back():
    pictures = by_class([10, 13])
    split, obj = stored(pictures)
    back = Split.from_json(obj, pictures)
    assert sides_as_lists(back) == sides_as_lists(split)
    assert (back.seed, back.how) == (11, split.how)


def test_a_stored_split_names_its_pictures():
    pictures = by_class([10, 13])
    split, obj = stored(pictures)
    assert obj["val"] == [f"None[{i}]" for i in split.val]
    assert obj["fingerprint"] == pictures.fingerprint


def test_a_split_of_other_data_is_refused():
    _, obj = stored(by_class([10, 13]))
    with pytest.raises(DropkitError, match=r"made for other data than 'made up'.*Give the data as they were"):
        Split.from_json(obj, by_class([10, 13], seed=1))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda obj: obj.pop("val"), "'val' is missing"),
        (lambda obj: obj.update(seed="11"), "'seed' is missing or not of type int"),
        (lambda obj: obj.update(test=[]), "'test' should list"),
        (lambda obj: obj.update(test=[7]), "'test' should list"),
        (lambda obj: obj["train"].append("None[99]"), r"no picture 'None\[99\]' \(1 such\)"),
        (lambda obj: obj["train"].append(obj["test"][0]), "listed twice"),
        (lambda obj: obj["val"].append(obj["val"][0]), "listed twice"),
    ],
)
def test_a_damaged_split_is_refused(change, text):
    pictures = by_class([10, 13])
    _, obj = stored(pictures)
    change(obj)
    with pytest.raises(DropkitError, match=rf"{text}.*Restore split\.json"):
        Split.from_json(obj, pictures)


def test_a_split_that_is_no_object_is_refused():
    with pytest.raises(DropkitError, match="should be a JSON object, but is list"):
        Split.from_json([], by_class([10, 13]))


@pytest.mark.skipif(not (DATA / "mnist.npz").is_file(), reason="needs MNIST in ../shared/data")
def test_mnist_gets_a_validation_split_with_mnists_shares():
    pictures = load(str(DATA / "mnist.npz"))
    split = make_split(pictures, seed=0, max_train=5000)
    assert [len(side) for side in sides(split).values()] == [5000, 882, 10000]
    share = counted(pictures, np.arange(60000)) / 60000
    assert np.abs(counted(pictures, split.train) - 5000 * share).max() < 2


def test_a_class_that_is_never_trained_on_is_refused():
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    labels = torch.tensor([1, 2] * 10 + [1, 2] * 5 + [1, 2] * 5)  # counted from 1: class 0 is empty
    given = {"train": (0, 20), "val": (20, 30), "test": (30, 40)}
    pictures = Pictures("made", images, labels, ("0", "1", "2"), tuple(map(str, range(40))), given, "f")
    with pytest.raises(DropkitError, match="no training picture of class '0': .*Labels count from 0"):
        make_split(pictures, seed=0)
