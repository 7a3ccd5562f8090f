"""Pictures in .parquet files and from the hub: real files, and a hub that is made up."""

import io
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dropkit.data.pictures import load
from dropkit.errors import DropkitError


@pytest.fixture(scope="module")
def datasets():
    return pytest.importorskip("datasets", reason="needs the extra hub")


def picture(seed=0, size=(5, 7)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return pixels, {"bytes": file.getvalue(), "path": f"object {seed}.png"}


def rows(count, first=0):
    return {
        "image": [picture(first + i)[1] for i in range(count)],
        "label": [i % 2 for i in range(count)],
        "weight": [0.5] * count,
    }


def dataset(datasets, count, first=0, **changes):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    features["weight"] = datasets.Value("float32")
    columns = {**rows(count, first), **changes}
    for name in columns.keys() - features.keys():
        features[name] = datasets.Value("int64")
    columns = {name: values for name, values in columns.items() if values is not None}
    return datasets.Dataset.from_dict(columns, features=datasets.Features({n: features[n] for n in columns}))


def test_a_parquet_file_is_read_with_its_class_names(datasets, tmp_path):
    dataset(datasets, 7).to_parquet(tmp_path / "pets.parquet")
    pictures = load(tmp_path / "pets.parquet", image_size="native")
    assert (pictures.name, pictures.shape, pictures.class_names) == ("pets", (3, 5, 7), ("cat", "dog"))
    assert pictures.given == {}
    assert pictures.is_folder
    assert pictures.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert pictures.ids[3] == "pets[3] object 3.png"
    for i in range(7):
        assert np.array_equal(pictures.images[i].permute(1, 2, 0).numpy(), picture(i)[0])
    assert load(tmp_path / "pets.parquet").shape == (3, 64, 64)


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"),
        ("data/train-0", "data/train-1", "data/val-0", "data/test-0"),
        ("train/0000", "train/0001", "valid/0000", "test/0000"),
    ],
)
def test_a_folder_of_parquet_files_has_splits_by_name(datasets, tmp_path, names):
    for i, (name, count) in enumerate(zip(names, (5, 3, 2, 4), strict=True)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        dataset(datasets, count, first=10 * i).to_parquet(tmp_path / f"{name}.parquet")
    pictures = load(tmp_path, image_size="native")
    assert pictures.given == {"train": (0, 8), "val": (8, 10), "test": (10, 14)}
    assert pictures.ids[7:9] == ("train[7] object 12.png", "val[0] object 20.png")
    assert np.array_equal(pictures.images[7].permute(1, 2, 0).numpy(), picture(12)[0])


def test_tables_that_other_programs_wrote_need_no_types(datasets, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    images = [picture(i)[1]["bytes"] for i in range(5)]
    table = pyarrow.table({"image": images, "label": ["dog", "cat", "dog", "eel", "cat"]})
    parquet.write_table(table, tmp_path / "pets.parquet", row_group_size=2)
    pictures = load(tmp_path / "pets.parquet", image_size="native")
    assert pictures.class_names == ("cat", "dog", "eel")
    assert pictures.labels.tolist() == [1, 0, 1, 2, 0]
    assert pictures.ids[0] == "pets[0]"
    assert np.array_equal(pictures.images[4].permute(1, 2, 0).numpy(), picture(4)[0])


def test_numbers_without_names_are_classes(datasets, tmp_path):
    kept = dataset(datasets, 5).cast_column("label", datasets.Value("int64"))
    kept.to_parquet(tmp_path / "pets.parquet")
    assert load(tmp_path / "pets.parquet").class_names == ("0", "1")


def refused(path, *fragments):
    with pytest.raises(DropkitError) as error:
        load(path)
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"image": None}, ["no column of pictures", "'label' (int64), 'weight' (float32)", "rename"]),
        ({"label": None}, ["no column of labels", "'image'", "named 'label'"]),
        ({"label": [0, 1, None, 1, 0]}, ["1 of 5 rows have no label, such as 'pets[2] object 2.png'"]),
        ({"label": [0, 1, -1, 1, 0]}, ["the label of 'pets[2] object 2.png' is -1; allowed are 0..1 (1 row has"]),
    ],
)
def test_columns_and_labels_that_cannot_be_used_are_named(datasets, tmp_path, change, fragments):
    dataset(datasets, 5, **change).to_parquet(tmp_path / "pets.parquet")
    refused(tmp_path / "pets.parquet", *fragments)


def test_a_label_above_64_bits_with_a_sign_is_one_that_is_not_allowed(datasets, tmp_path):
    kind = datasets.Value("uint64")
    made = dataset(datasets, 5, label=None).add_column("label", np.array([0, 1, 2**63 + 1, 1, 0], dtype=np.uint64))
    made.cast_column("label", kind).to_parquet(tmp_path / "pets.parquet")
    refused(tmp_path / "pets.parquet", f"'pets[2] object 2.png' is {2**63 + 1}; allowed are 0..4 (1 row has others)")


def test_of_several_label_columns_the_one_called_label_counts(datasets, tmp_path):
    two = dataset(datasets, 5, coarse=[0, 0, 0, 1, 1]).cast_column("coarse", datasets.ClassLabel(names=["a", "b"]))
    two.to_parquet(tmp_path / "pets.parquet")
    assert load(tmp_path / "pets.parquet").class_names == ("cat", "dog")
    two.rename_column("label", "kind").to_parquet(tmp_path / "pets.parquet")
    refused(tmp_path / "pets.parquet", "several columns of labels: 'kind', 'coarse'")


def test_bad_rows_are_stopped_at_or_skipped(datasets, tmp_path):
    images = rows(7)["image"]
    images[1] = {"bytes": b"no picture", "path": None}
    images[3] = None
    dataset(datasets, 7, image=images).to_parquet(tmp_path / "pets.parquet")
    refused(tmp_path / "pets.parquet", "2 of 7 pictures", "'pets[1]': no BMP", "'pets[3]': the file is empty")
    pictures = load(tmp_path / "pets.parquet", on_bad_image="skip")
    assert len(pictures) == 5
    assert [name for name, _ in pictures.skipped] == ["pets[1]", "pets[3]"]


def test_a_damaged_file_and_other_columns_are_errors(datasets, tmp_path):
    (tmp_path / "pets.parquet").write_bytes(b"PAR1 and no more")
    refused(tmp_path / "pets.parquet", "cannot be read as parquet")
    dataset(datasets, 5).to_parquet(tmp_path / "train.parquet")
    dataset(datasets, 5, weight=None).to_parquet(tmp_path / "test.parquet")
    (tmp_path / "pets.parquet").unlink()
    refused(tmp_path, "the test split has the columns ['image', 'label'], and train has ['image', 'label', 'weight']")


@pytest.mark.parametrize(
    ("names", "text"),
    [(("train", "more"), "has 'more.parquet' beside the splits ['train']"), (("test", "val"), "no train")],
)
def test_files_that_are_partly_splits_are_refused(datasets, tmp_path, names, text):
    for name in names:
        dataset(datasets, 5).to_parquet(tmp_path / f"{name}.parquet")
    refused(tmp_path, text)


def test_parquet_streams_too(datasets, tmp_path):
    dataset(datasets, 71).to_parquet(tmp_path / "pets.parquet", batch_size=10)
    held, streamed = (load(tmp_path / "pets.parquet", stream=stream) for stream in ("no", "yes"))
    assert streamed.images is None
    assert streamed.fingerprint == held.fingerprint


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "pets.parquet").touch()
    for source in (tmp_path / "pets.parquet", "hub:org/pets"):
        refused(source, "pip install 'dropkit[hub]'")


@pytest.fixture
def hub(datasets, monkeypatch):
    """A hub with one data set."""
    asked = []

    def load_dataset(name, configuration=None):
        asked.append((name, configuration))
        if name != "org/pets":
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset {name!r} doesn't exist on the Hub")
        splits = {"test": (3, 20), "train": (7, 0), "validation": (2, 10), "unsupervised": (5, 30)}
        return datasets.DatasetDict({split: dataset(datasets, *place) for split, place in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_data_set_of_the_hub_comes_with_its_splits(hub, tmp_path):
    pictures = load("hub:org/pets", image_size="native", stream="yes", spool=tmp_path)
    assert (pictures.name, pictures.class_names) == ("pets", ("cat", "dog"))
    assert pictures.given == {"train": (0, 7), "val": (7, 9), "test": (9, 12)}
    assert np.array_equal(pictures.read(np.array([8]))[0].permute(1, 2, 0).numpy(), picture(11)[0])
    assert pictures.notes == ("left alone, as they are neither train, validation nor test: 'unsupervised' (5 rows)",)
    load("hub:org/pets:small")
    assert hub == [("org/pets", None), ("org/pets", "small")]


def test_a_test_split_without_labels_is_left_out(datasets, hub, monkeypatch):
    splits = {"train": dataset(datasets, 7), "test": dataset(datasets, 3, label=[-1] * 3)}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args: datasets.DatasetDict(splits))
    pictures = load("hub:org/pets")
    assert (pictures.given, len(pictures)) == ({"train": (0, 7)}, 7)
    assert "the test split has no labels (all are -1) and was left out." in pictures.notes


@pytest.mark.parametrize("source", ["hub:", "hub:a/b/c", "hub:org/pets:", "hub:org/pe ts"])
def test_a_name_that_the_hub_cannot_have_is_refused(datasets, source):
    refused(source, "allowed is hub:ORG/NAME, or hub:ORG/NAME:CONFIGURATION")


def test_what_the_hub_does_not_have_is_an_error_of_ours(hub):
    refused("hub:org/pest", "cannot be loaded from the hub: Dataset 'org/pest' doesn't exist", "Check the name")


@pytest.mark.parametrize("source", ["hub:org/pets", "hub:org/pets:small"])
def test_a_local_folder_is_not_taken_for_the_hubs(hub, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("org/pets").mkdir(parents=True)
    refused(source, "there is 'org/pets' in the working folder", "give './org/pets'")
    assert hub == []


class ConnectError(Exception):
    """As httpx has it."""


class TransportError(ConnectError):
    """As httpx has it."""


@pytest.mark.parametrize("cause", [ConnectionError, TransportError])
def test_without_network_one_plain_message_comes_and_no_retries(datasets, monkeypatch, caplog, cause):
    logger = logging.getLogger("huggingface_hub.utils._http")

    def load_dataset(name, configuration=None):
        logger.warning("Retrying in 1s [Retry 1/5].")
        logging.getLogger("httpx").warning("no route")
        try:
            raise cause("Couldn't reach 'org/pets' on the Hub (LocalEntryNotFoundError)")
        except cause as error:
            raise ValueError("LocalEntryNotFoundError") from error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DropkitError, match="the Hugging Face hub could not be reached. Check the network") as error:
        load("hub:org/pets")
    assert "LocalEntry" not in str(error.value)
    assert "Retry" not in caplog.text
    assert "no route" not in caplog.text
    assert logger.isEnabledFor(logging.WARNING)
