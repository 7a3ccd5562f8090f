"""Thousands of bad inputs: each is refused in words, or taken; none ends in a traceback, or in a file elsewhere."""

import contextlib
import io
import json
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import dropkit
from dropkit import cli
from dropkit.data.pictures import load
from dropkit.data.split import make_split
from dropkit.errors import DropkitError
from dropkit.models.networks import build
from dropkit.models.policy import Policy
from dropkit.models.surgery import insert
from dropkit.report.page import render
from dropkit.runs.config import TrainConfig
from dropkit.runs.run import read_run
from dropkit.studies.reopen import reopen

RUBBISH = settings(settings.get_profile("rubbish"))

NASTY = st.sampled_from(
    [
        *("", " ", ".", "..", "../evil", "/tmp/evil", "a/b", "a\\b", "'", '"', "\n", "<script>alert(1)</script>"),
        *(
            "\u202eabc",
            "=1+1",
            "-x",
            "@a",
            "a" * 300,
            "\x00",
            "\ud800",
            "ä",
            "名前",
            "%s",
            "{}",
            "$(touch evil)",
            "~",
            "CON",
        ),
    ]
)
TEXTS = NASTY | st.text(max_size=40)
NUMBERS = st.floats() | st.integers(-(2**70), 2**70)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@contextlib.contextmanager
def only_refused():
    """Let a refusal in words pass, and nothing else: its words are there."""
    said = "words"
    try:
        yield
    except DropkitError as refusal:
        said = str(refusal)
    assert said.strip()
    assert "Traceback" not in said


# --- texts


PIECES = st.sampled_from(
    [
        *[
            "fc",
            "conv",
            "input",
            "head",
            "path",
            "none",
            "model",
            "=",
            "0.5",
            "-1",
            "2",
            "nan",
            "inf",
            ",",
            ":",
            "/",
            "[",
            "]",
            "@",
            "channel",
            "dropblock",
            "unit",
            "connect",
            "*",
            "act",
        ],
        *(" ", "1e999", "0x1", "conv[0]", "dropblock:0.1/7", "é", "\n"),
    ]
)


@RUBBISH
@given(text=st.lists(PIECES, max_size=9).map("".join) | TEXTS)
def test_policies(text):
    with only_refused():
        policy = Policy.parse(text)
        insert(build("mlp", input_shape=(1, 8, 8), num_classes=3), policy)


@RUBBISH
@given(
    text=st.tuples(
        st.sampled_from(["timm:", "torchvision:", "mlp:", "cnn:", "", "x.py:", "/etc/passwd:", "os:", "."]), TEXTS
    ).map("".join)
)
@example(text="os:system")
@example(text="mlp:99999999999999999999")
@example(text="mlp:1-2-")
def test_models(text):
    with only_refused():
        build(text, input_shape=(1, 8, 8), num_classes=3)


FIELDS = sorted(TrainConfig.__dataclass_fields__)


@RUBBISH
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON | TEXTS, max_size=3))
def test_configs(changes):
    with only_refused():
        config = TrainConfig(**{"data": "digits", **changes})
        json.dumps(config.identity(), default=str)


# --- pictures


def picture(form="PNG", size=(9, 7)):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


GOOD = {form: picture(form) for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")}


@st.composite
def damaged(draw, content):
    """Bytes that were a good file once."""
    good = bytearray(draw(content))
    how = draw(st.sampled_from(["cut", "flip", "insert", "random", "header"]))
    if how == "cut":
        return bytes(good[: draw(st.integers(0, len(good)))])
    if how == "random":
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, min(len(good) - 1, 60 if how == "header" else len(good) - 1)))
        if how == "insert":
            good[place:place] = draw(st.binary(min_size=1, max_size=9))
        else:
            good[place] = draw(st.integers(0, 255))
    return bytes(good)


@RUBBISH
@given(
    content=damaged(st.sampled_from(list(GOOD.values()))),
    suffix=st.sampled_from([".png", ".jpg", ".gif", ".bmp", ".webp", ".tif", ".txt", ""]),
    on_bad=st.sampled_from(["stop", "skip"]),
)
def test_image_files(content, suffix, on_bad):
    with fresh("photos") as folder:
        for name in ("a", "b"):
            (folder / name).mkdir()
            for number in range(4):
                (folder / name / f"{number}.png").write_bytes(picture(size=(5 + number, 6)))
        (folder / "a" / f"bad{suffix}").write_bytes(content)
        with only_refused():
            pictures = load(str(folder), image_size="8", on_bad_image=on_bad)
            assert pictures.read(np.arange(len(pictures))).shape[1:] == (3, 8, 8)


@contextlib.contextmanager
def fresh(name):
    folder = Path(name)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@st.composite
def trees(draw):
    """A folder of folders with pictures, links, files where folders belong, and names that nobody expects."""
    safe = st.text(string.ascii_letters + " .-_'\"<>&=+@\n\u202e名", min_size=1, max_size=30)
    names = draw(st.lists(safe.filter(lambda name: name not in (".", "..")), max_size=5, unique=True))
    kinds = st.sampled_from(["class", "class", "class", "empty", "file", "loop", "dangling", "deep", "link"])
    return [(name, draw(kinds), draw(st.integers(0, 3))) for name in names]


@RUBBISH
@given(tree=trees())
def test_folders(tree):
    with fresh("tree") as root:
        for name, kind, count in tree:
            place = root / name
            with contextlib.suppress(OSError):
                grow(place, kind, count)
        with only_refused():
            pictures = load(str(root), image_size="8", on_bad_image="skip")
            split = make_split(pictures, seed=0)
            assert len(split.train)


def grow(place, kind, count):
    if kind == "file":
        place.write_bytes(b"x")
        return
    if kind == "dangling":
        place.symlink_to("nowhere")
        return
    if kind == "link":
        place.symlink_to("/etc")
        return
    place.mkdir()
    if kind == "loop":
        (place / "self").symlink_to(place.resolve())
    if kind == "deep":
        place = place / "x" / "y"
        place.mkdir(parents=True)
    if kind != "empty":
        for number in range(count):
            (place / f"{number}.png").write_bytes(picture(size=(5 + number, 6)))


# --- arrays


ARRAYS = st.sampled_from(
    [
        np.zeros((6, 5, 7), np.uint8),
        np.zeros((6, 5, 7, 3), np.uint8),
        np.zeros((6, 5, 7, 2), np.uint8),
        np.zeros((0, 5, 7), np.uint8),
        np.zeros((6, 0, 7), np.uint8),
        np.zeros(6, np.int64),
        np.arange(6),
        np.arange(6) - 3,
        np.arange(6.0),
        np.full(6, np.nan),
        np.array(["a", "b", "<b>", "", "\n", "../x"]),
        np.array([None] * 6, dtype=object),
        np.array(3),
        np.zeros((6, 1), np.int64),
        np.full((6, 5, 7), np.nan, np.float32),
        np.full((6, 5, 7), 1e30, np.float64),
        np.zeros((6, 5, 7), complex),
        np.zeros(6, dtype=[("a", int)]),
        np.array([b"x"] * 6),
        np.array(["2020-01-01"] * 6, dtype="datetime64[D]"),
        np.array([2**63 - 1] * 6, dtype=np.uint64),
    ]
)
KEYS = st.sampled_from(
    [
        *["train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels", "class_names"],
        *("../evil", "/tmp/evil", "x", "", "train_images.npy", "__class__"),
    ]
)


@RUBBISH
@given(arrays=st.dictionaries(KEYS, ARRAYS, max_size=7), damage=st.none() | st.integers(0, 10**6))
def test_npz_files(arrays, damage):
    with fresh("arrays") as folder:
        file = io.BytesIO()
        np.savez(file, **arrays)
        content = bytearray(file.getvalue())
        if damage is not None and content:
            content[damage % len(content)] ^= 1 + damage % 255
        (folder / "data.npz").write_bytes(content)
        with only_refused():
            pictures = load(str(folder / "data.npz"))
            make_split(pictures, seed=0)
        assert sorted(path.name for path in folder.iterdir()) == ["data.npz"]


# --- records


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, of which each test damages a copy."""
    out = tmp_path_factory.mktemp("finished") / "run"
    config = TrainConfig(data="digits", model="mlp", epochs=1, max_train=60, threads=1, out=str(out))
    return dropkit.train(config, progress=False).folder


RECORDS = ["config.json", "summary.json", "split.json", "environment.json", "metrics.jsonl", "details.json"]
TENSORS = ["model.safetensors", "test.safetensors"]


def put(value, place, new):
    """Replace one part of a nested record, or remove it."""
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = list(keys)[place % len(keys)]
        place //= len(keys)
        if place == 0 or not isinstance(value[key], dict | list) or not value[key]:
            if new is ...:
                del value[key]
            else:
                value[key] = new
            return
        value = value[key]


@RUBBISH
@given(
    name=st.sampled_from(RECORDS + TENSORS),
    place=st.integers(0, 10**6),
    new=st.just(...) | JSON | TEXTS,
    damage=st.none() | damaged(st.just(b"{}")),
)
def test_runs(finished, name, place, new, damage):
    with fresh("copy") as folder:
        shutil.copytree(finished, folder / "run")
        file = folder / "run" / name
        if damage is not None or name in TENSORS:
            content = file.read_bytes()
            file.write_bytes(damage if damage is not None and place % 2 else content[: place % (len(content) + 1)])
        else:
            lines = [json.loads(line) for line in file.read_text().splitlines()] if name.endswith("l") else None
            value = json.loads(file.read_text()) if lines is None else lines
            put(value, place, new)
            text = json.dumps(value) if lines is None else "\n".join(map(json.dumps, value))
            file.write_text(text)
        with only_refused():
            opened = reopen(folder / "run")
            str(opened)
            opened.model()
            opened.test_predictions()
        words = ["report", str(folder / "run")]
        code, said = command(words)
        assert code in (0, 1, 2), said
        assert "Traceback" not in said
        with only_refused():
            str(read_run(folder / "run"))


# --- the command


WORDS = st.sampled_from(
    [
        *["train", "compare", "tune", "reproduce", "predict", "uncertainty", "evidence", "export", "report", "check"],
        *[
            "--out",
            "--seed",
            "--seeds",
            "--epochs",
            "--model",
            "--dropout",
            "--policies",
            "--json",
            "--help",
            "--data",
            "--table",
            "--samples",
        ],
        *[
            "--batch-size",
            "--image-size",
            "--sweep",
            "--budget",
            "--folds",
            "--storage",
            "--workers",
            "--csv",
            "--to",
            "--no-such",
        ],
        *["1", "-1", "0", "nan", "fc=0.5", "none", "nowhere", "srivastava2014", "9", "--", "-", "-h"],
        "x" * 300,
    ]
)


@RUBBISH
@given(words=st.lists(WORDS | TEXTS, max_size=7))
def test_command_lines(words):
    """Nothing that is named is there, so that nothing is trained."""
    words = [word for word in words if word not in ("digits", "bench")]
    code, said = command(words)
    assert code in (0, 1, 2), said
    assert "Traceback" not in said
    assert list(Path().iterdir()) == []


def command(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(words)
        except SystemExit as end:
            return end.code, out.getvalue() + err.getvalue()
    raise AssertionError("the command did not end")


# --- pages


@RUBBISH
@given(name=TEXTS, other=TEXTS)
def test_names_on_pages_stay_text(name, other):
    record = {"kind": "run", "policy": other, "data": {"name": name, "class_names": [name, other]}}
    with only_refused():
        page = render(record)
        assert "<script>alert" not in page
        assert "\u202e" not in page
