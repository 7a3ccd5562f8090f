import io

import pytest
from rich.console import Console

from dropkit.bench.tables import duration, print_tables

ENVIRONMENT = {"dropkit": "1.2", "torch": "3.4", "cpu": "A CPU", "cores": 2, "threads": 1, "device": "cpu"}


def row(name, seconds, **more):
    return {"name": name, "seconds": seconds, "low": seconds, "high": 2 * seconds, "n": 7, "ratio": 1.0, **more}


RECORD = {
    "environment": ENVIRONMENT,
    "kernels": "avx2",
    "p": 0.1,
    "note": "torch.compile [does] not work",
    "masks": [
        row("copy_", 1e-6, task="T", dtype="float32", units=4096, gb_per_second=12.34, bytes_saved=None),
        row("dropkit", 2e-3, task="T", dtype="float32", units=4096, gb_per_second=5.0, bytes_saved=48),
        row("copy_", 1e-6, task="T", dtype="float32", units=8192, gb_per_second=12.34, bytes_saved=None),
    ],
    "networks": [row("no dropout", 0.25, network="N", memory_format="channels-last")],
}


@pytest.mark.parametrize("width", [40, 200])
def test_tables_are_markdown_at_their_natural_width(width):
    out = io.StringIO()
    print_tables(RECORD, Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert lines[0] == "dropkit 1.2 (avx2 kernels), torch 3.4; A CPU, 2 cores, 1 threads; device cpu"
    assert "note: torch.compile [does] not work" in lines
    at = lines.index("float32, T")
    assert lines[at + 1].split("|")[1:3] == [" units ", "         "]
    first, second = lines[at + 3], lines[at + 4]
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "4,096", "copy_", "1.00 us", "1.00 us to 2.00 us", "7", "12.3", "1.00x", "-",
    ]  # fmt: skip
    assert [cell.strip() for cell in second.split("|")[1:-1]][-1] == "48 B"
    assert second.split("|")[1].strip() == ""
    assert any("8,192" in line for line in lines)
    assert "a training step of N, channels-last" in lines
    assert lines[-1].split("|")[2].strip() == "250 ms"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.2e-7, "0.32 us"),
        (9.99e-4, "999 us"),
        (1e-3, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (1.0, "1.00 s"),
        (75.0, "75.0 s"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
