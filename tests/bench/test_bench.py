import json

import pytest

import dropkit
from dropkit.bench import bench as room
from dropkit.bench.bench import BenchConfig, bench, parse_units

SMALL = {"sizes": ("64", "1Ki"), "dtypes": ("float32",), "seconds": 0.001, "threads": 1, "compiled": False}


@pytest.fixture(scope="module")
def record():
    return bench(BenchConfig(only="masks", **SMALL))


def test_the_record_is_plain_json_with_every_figure(record):
    assert json.loads(json.dumps(record)) == record
    assert len(record["masks"]) == 2 * (4 + 3 + 3 + 3)
    for row in record["masks"]:
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        assert row["n"] >= 5
        assert row["gb_per_second"] > 0
        assert row["name"] != row["base"] or row["ratio"] == 1.0
    assert record["environment"]["threads"] == 1
    assert record["networks"] == []


def test_each_part_by_itself(monkeypatch):
    from dropkit.bench import networks

    monkeypatch.setattr(networks, "BATCH", 2)
    monkeypatch.setattr(networks.network_cases, "__defaults__", (2,))
    told = []
    record = bench(BenchConfig(only="networks", **SMALL), told.append)
    assert record["masks"] == []
    assert {row["network"] for row in record["networks"]} == {networks.BEFORE, networks.AFTER, networks.TUTORIAL}
    assert told[0] == "BN-CNN, dropout before pooling, contiguous"
    assert len(told) == 6


def test_a_compiler_that_does_not_work_is_said_and_left_out(monkeypatch):
    import torch

    def broken(function, **options):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    record = bench(BenchConfig(only="masks", **{**SMALL, "sizes": ("64",), "compiled": True}))
    assert not record["compiled"]
    assert record["note"] == "torch.compile does not work here (RuntimeError: no compiler)"
    assert not any("compiled" in row["name"] for row in record["masks"])


def test_compiled_forms_are_timed_too():
    record = bench(BenchConfig(only="masks", **{**SMALL, "sizes": ("64",), "compiled": True}))
    if not record["compiled"]:
        pytest.skip(record["note"])
    assert sum("compiled" in row["name"] for row in record["masks"]) == 2 * 3


@pytest.mark.parametrize(("text", "units"), [("7", 7), ("4Ki", 4096), ("64Mi", 1 << 26), ("4Gi", 1 << 32)])
def test_sizes(text, units):
    assert parse_units(text) == units


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5Ki", "Ki", "5Gi", "4ki", "x", "٣"])
def test_no_sizes(text):
    with pytest.raises(dropkit.DropkitError, match="--sizes takes numbers of units from 1 to 4Gi"):
        parse_units(text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sizes": ()}, "--sizes and --dtypes take one value or more, but got none"),
        ({"dtypes": ("float8",)}, "unknown dtype 'float8'"),
        ({"p": 1.5}, "dropout probability has to be between 0 and 1"),
        ({"seconds": 0.0}, "--seconds has to be above 0"),
        ({"seconds": float("nan")}, "--seconds has to be above 0"),
        ({"threads": 0}, "--threads has to be at least 1"),
        ({"device": "cpux"}, "unknown device"),
    ],
)
def test_wrong_input_is_said_before_anything_is_timed(monkeypatch, wrong, message):
    monkeypatch.setattr(room, "_masks", lambda *given: pytest.fail("timed"))
    with pytest.raises(dropkit.DropkitError, match=message):
        bench(BenchConfig(**{**SMALL, **wrong}))


def test_the_same_size_is_timed_once():
    record = bench(BenchConfig(only="masks", **{**SMALL, "sizes": ("64", "64"), "dtypes": ("float32", "float32")}))
    assert len(record["masks"]) == 13


def test_an_activation_too_large_is_said(monkeypatch):
    from dropkit.bench import masks

    def full(*given):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 34359738368 bytes.")

    monkeypatch.setattr(masks, "_fresh", full)
    with pytest.raises(dropkit.DropkitError, match="does not fit into memory: leave the largest out"):
        bench(BenchConfig(only="masks", **SMALL))
