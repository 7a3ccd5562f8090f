import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropkit.data.pictures import Part, Pictures, join, load
from dropkit.data.split import Split, make_split
from dropkit.errors import DropkitError

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


counts = st.lists(st.integers(7, 60), min_size=2, max_size=11)
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
        assert (np.abs(got - wanted) < 1).all()
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
        for size in draw(st.lists(st.integers(1, 9), min_size=7, max_size=12)):
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


def test_classes_too_small_to_be_divided_are_named():
    refused(by_class([9, 6, 9, 1]), "7 distinct pictures or more", "'class 1' has 6, 'class 3' has 1. Add pictures")
    make_split(by_class([9, 7, 9, 8]), seed=0)


def test_copies_do_not_make_a_class_large_enough():
    pictures = pictures_of(part([0] * 7 + [1] * 9, contents=[*range(7), *range(7, 13), 7, 7, 8]))
    refused(pictures, "'class 1' has 6")


def test_small_classes_are_enough_where_no_split_is_made():
    parts = [part([0, 1], "train"), part([0, 1], "val", first=50), part([0, 1], "test", first=90)]
    assert len(make_split(pictures_of(*parts), seed=0).train) == 2
    refused(pictures_of(*parts[::2]), "7 distinct pictures", "'class 0' has 1, 'class 1' has 1")


def test_many_small_classes_are_counted():
    refused(by_class([1] * 13), "'class 9' has 1 and 3 more classes")


def grouped(labels, groups, contents=None):
    """Return pictures whose ids hold the number of their group."""
    one = part(labels, contents=contents)
    ids = tuple(
        f"class {label}/object {group} view {i}.png"
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    )
    return pictures_of(Part(None, one.images, one.labels, ids))


BY_OBJECT = r"object (\d+)"


@st.composite
def objects(draw):
    """Return label and object of each picture: objects of one class or several, of any size, some pictures twice."""
    classes = draw(st.integers(2, 4))
    labels, groups = [], []
    for group in range(draw(st.integers(9, 40))):
        spread = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=2))
        for label in spread:
            size = draw(st.integers(1, 6))
            labels += [label] * size
            groups += [group] * size
    contents = list(range(len(labels)))
    for _ in range(draw(st.integers(0, 3))):
        contents[draw(st.integers(0, len(labels) - 1))] = draw(st.integers(0, len(labels) - 1))
    return labels, groups, contents


@given(objects(), seeds, st.none() | st.sampled_from(["1/2", "3/3", "2/5"]))
def test_objects_stay_on_one_side_and_every_class_is_everywhere_or_an_error_says_why(drawn, seed, fold):
    labels, groups, contents = drawn
    if len(set(labels)) < labels[-1] + 1 or max(labels) != len(set(labels)) - 1:
        labels = np.unique(labels, return_inverse=True)[1].tolist()
    if len(set(labels)) < 2:
        labels[0] = 1 - labels[0]
    pictures = grouped(labels, groups, contents)
    try:
        split = make_split(pictures, seed=seed, group=BY_OBJECT, fold=fold)
    except DropkitError as error:
        if "distinct pictures or more" in str(error) or "groups" in str(error):
            return
        raise
    check_partition(split, len(labels))
    for what in (np.array(groups), np.array(contents)):
        held = [set(what[side].tolist()) for side in sides(split).values()]
        assert sum(map(len, held)) == len(set.union(*held))
    for side in sides(split).values():
        assert (counted(pictures, side) >= 1).all()


def test_an_identical_picture_ties_two_objects_together():
    contents = list(range(40))
    contents[39] = 0  # the last object's picture is also one of the first object's
    for seed in range(20):
        split = make_split(grouped([0, 1] * 20, np.arange(40) // 2, contents), seed=seed, group=BY_OBJECT)
        assert any({0, 1, 38, 39} <= set(side.tolist()) for side in sides(split).values())


def test_objects_of_several_classes_are_divided_as_nearly_as_they_allow():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(100), 5)
    labels = rng.integers(0, 3, 500)
    split = make_split(grouped(labels, groups), seed=0, group=BY_OBJECT)
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        got = counted(grouped(labels, groups), sides(split)[name])
        # half an object's pictures of one class, and one more for rounding
        assert np.abs(got - np.bincount(labels) * share).max() <= 3.5


def test_a_class_in_two_large_objects_moves_what_keeps_the_others_in_place():
    # Rare pictures in three objects that would all go to train, the side that lacks most.
    labels = [0] * 90 + [1] * 9
    groups = [*np.arange(90) // 3, *([90] * 3 + [91] * 3 + [92] * 3)]
    groups[0:3], groups[3:6], groups[6:9] = [90] * 3, [91] * 3, [92] * 3
    pictures = grouped(labels, groups)
    for seed in range(10):
        split = make_split(pictures, seed=seed, group=BY_OBJECT)
        assert [counted(pictures, side)[1] for side in sides(split).values()] == [3, 3, 3]


def test_a_class_with_too_few_objects_is_named():
    refused(
        grouped([0] * 9 + [1] * 9, [*range(9), *[9] * 5, *[10] * 4]),
        "3 groups or more",
        "'class 1' has 2",
        group=BY_OBJECT,
    )
    refused(grouped([0] * 9 + [1] * 9, [*range(9), 0, *[9] * 8]), "'class 1' has 2", "Make the groups", group=BY_OBJECT)


def test_what_the_class_folder_adds_to_the_group_keeps_classes_apart():
    pictures = grouped([0] * 10 + [1] * 10, [*range(10), *range(10)])
    together = make_split(pictures, seed=0, group=BY_OBJECT)
    apart = make_split(pictures, seed=0, group=r"(.*) view")
    assert all((side[: len(side) // 2] + 10 == side[len(side) // 2 :]).all() for side in sides(together).values())
    assert sides_as_lists(apart) == sides_as_lists(make_split(pictures, seed=0))


def test_a_group_that_cannot_be_read_says_what_to_do():
    pictures = by_class([9, 9])
    refused(pictures, "group is '('", "no regular expression", group="(")
    refused(pictures, "17 of 18 pictures no group, such as 'None[0]'", "widen the pattern", group=r"\[17\]")
    refused(pictures, "18 of 18", group=r"None(x)?")


def test_how_names_the_group_and_the_fold():
    pictures = grouped([0, 1] * 20, range(40))
    assert f"those of one group ({BY_OBJECT}) kept together" in make_split(pictures, seed=0, group=BY_OBJECT).how
    how = make_split(pictures, seed=0, fold="2/5").how
    assert how.startswith("test: fold 2 of 5 of 40 pictures; val made: 15 % of the rest; stratified")


def test_given_splits_that_share_objects_are_counted():
    train, test = part([0, 1] * 10, "train"), part([0, 1] * 3, "test", first=50)
    ids = [tuple(f"object {g}" for g in groups) for groups in (np.arange(20) // 2, [0, 0, 0, 9, 90, 91])]
    parts = [Part(one.split, one.images, one.labels, names) for one, names in zip((train, test), ids, strict=True)]
    notes = [note for note in make_split(pictures_of(*parts), seed=0, group=BY_OBJECT).notes if "groups" in note]
    assert len(notes) == 1
    assert "groups are in train and in test (" in notes[0]
    assert "of 6 test pictures)" in notes[0]


@given(counts, seeds, st.integers(2, 7), st.data())
def test_folds_divide_the_pictures_and_each_is_stratified(counts, seed, folds, data):
    pictures = by_class(counts)
    splits = [make_split(pictures, seed=seed, fold=f"{i}/{folds}") for i in range(1, folds + 1)]
    tested = np.concatenate([split.test for split in splits])
    assert np.array_equal(np.sort(tested), np.arange(len(pictures)))
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for split in splits:
        check_partition(split, len(pictures))
        assert (np.abs(counted(pictures, split.test) - np.array(counts) / folds) < 1).all()
        rest = np.array(counts) - counted(pictures, split.test)
        assert (np.abs(counted(pictures, split.val) - 0.15 * rest) < 1).all()
        assert (counted(pictures, split.val) >= 1).all()


def test_a_fold_is_drawn_with_the_seed():
    pictures = by_class([20, 20])
    first, again, other = (make_split(pictures, seed=seed, fold="1/5").test.tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/5/7", "-1/5", ""])
def test_a_fold_that_cannot_be_is_refused(fold):
    refused(by_class([9, 9]), f"fold is {fold!r}", "such as 2/5", fold=fold)


def test_folds_of_data_with_a_test_split_are_refused():
    pictures = pictures_of(part([0, 1] * 20, "train"), part([0, 1], "test", first=90))
    refused(pictures, "come with a test split", "leave folds out", fold="1/5")


def test_more_folds_than_a_class_has_pictures_are_refused():
    refused(by_class([9, 12]), "11 distinct pictures", "'class 0' has 9", fold="1/11")


def test_a_validation_split_that_came_stays_beside_folds():
    pictures = pictures_of(part([0, 1] * 20, "train"), part([0, 1], "val", first=90))
    split = make_split(pictures, seed=0, fold="2/5")
    assert [len(side) for side in sides(split).values()] == [32, 2, 8]
    assert "val as it came" in split.how


def test_test_pictures_that_are_also_trained_on_are_counted():
    train, test = part([0, 1] * 10, "train"), part([0, 1, 0], "test", contents=[0, 0, 1], first=19)
    split = make_split(pictures_of(train, test), seed=0)
    # picture 19 of the training data is the test split's first, which is there twice
    assert split.duplicates == (2 if 19 in split.train else 0)
    val = part([0, 1], "val", first=70)
    split = make_split(pictures_of(train, val, test), seed=0)
    assert split.duplicates == 2
    assert "2 of 3 test pictures are also among the training pictures: test figures are flattered" in split.notes[0]
    pictures = pictures_of(train, val, test)
    back = Split.from_json(split.to_json(pictures), pictures)
    assert (back.duplicates, back.notes) == (split.duplicates, split.notes)


def test_made_splits_have_no_duplicates():
    pictures = pictures_of(part([0] * 20 + [1] * 20, contents=[0] * 10 + list(range(10, 40))))
    split = make_split(pictures, seed=0)
    assert split.duplicates == 0
    assert not any("also among" in note or "several labels" in note for note in split.notes)


def test_validation_pictures_that_are_also_trained_on_are_counted():
    train, val = part([0, 1] * 20, "train"), part([0, 1, 0], "val", contents=[0, 0, 1], first=39)
    split = make_split(pictures_of(train, val, part([0, 1], "test", first=90)), seed=0)
    assert split.duplicates == 0
    assert split.notes[0].startswith("2 of 3 validation pictures are also among the training pictures")
    assert "chooses the epoch" in split.notes[0]


def test_identical_pictures_under_several_labels_are_counted_and_two_are_shown():
    contents = [*range(20), *range(20), 0, 3, 3]
    contents[20:40] = range(20, 40)
    labels = [0] * 20 + [1] * 20 + [0, 1, 1]  # 0 is there twice under one label, 3 under two
    notes = make_split(pictures_of(part(labels, contents=contents)), seed=0).notes
    assert notes[0].startswith("3 pictures bear several labels, such as 'None[3]' and 'None[41]'")


def test_a_class_whose_pictures_another_has_too_is_said_to_have_its_own():
    pictures = pictures_of(part([0] * 20 + [1] * 21, contents=[*range(20), *range(20), 20]))
    refused(pictures, "'class 1' has 21 (20 of which count for another class that has them too)")


@pytest.mark.parametrize(("count", "points"), [(1, 59), (25, 12), (99, 6), (100, None)])
def test_few_test_pictures_get_a_note_on_what_they_tell(count, points):
    parts = [part([0, 1] * 20, "train"), part([0, 1], "val", first=50), part([0] * count, "test", first=90)]
    found = [note for note in make_split(pictures_of(*parts), seed=0).notes if "is known to within" in note]
    assert len(found) == (points is not None)
    if found:
        assert f"with {count} test picture" in found[0]
        assert f"about {points} points: a larger test split" in found[0]


def test_folds_are_named_only_where_they_can_be_had_and_are_not_there():
    pictures = by_class([30, 40])
    split = make_split(pictures, seed=0)
    assert split.notes == (
        f"with {len(split.test)} test pictures an error of 10% is known to within about 19 points: --folds 5 tests on "
        "every picture.",
    )
    folded = make_split(pictures, seed=0, fold="2/5")
    assert folded.notes == Split.from_json(folded.to_json(pictures), pictures).notes == ()


def test_a_class_that_a_given_split_lacks_is_noted():
    parts = [part([0, 1, 2] * 9, "train"), part([0, 1], "val", first=50), part([0, 2], "test", first=90)]
    notes = make_split(pictures_of(*parts), seed=0).notes
    assert [note.partition(":")[0] for note in notes[:2]] == [
        "the val split has no picture of class 'class 2'",
        "the test split has no picture of class 'class 1'",
    ]


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
