from types import SimpleNamespace

import pytest

from dropkit.data import memory


def test_the_least_of_what_system_and_container_say_counts(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=700))
    for groups, least in (((900, None), 700), ((None, 500), 500), ((None, None), 700)):
        answers = iter(groups)
        monkeypatch.setattr(memory, "_of_group", lambda *files, answers=answers: next(answers))
        assert memory.available_memory() == least


@pytest.mark.parametrize(("limit", "left"), [("700\n", 200), ("300\n", 0), ("max\n", None)])
def test_a_container_has_its_limit_less_what_is_used(tmp_path, limit, left):
    (tmp_path / "max").write_text(limit)
    (tmp_path / "current").write_text("500\n")
    files = [str(tmp_path / name) for name in ("max", "current", "stat")]
    assert memory._of_group(*files, "inactive_file") == left
    assert memory._of_group(str(tmp_path / "none"), *files[1:], "inactive_file") is None


@pytest.mark.parametrize(
    ("name", "statistics", "left"),
    [
        ("inactive_file", "anon 31\ninactive_file 90\nactive_file 7\n", 290),
        ("total_inactive_file", "inactive_file 3\ntotal_inactive_file 70\n", 270),
        ("inactive_file", "inactive_file 900\n", 700),
        ("inactive_file", "anon 31\n", 200),
        ("inactive_file", "what is this\n", 200),
    ],
)
def test_what_is_cached_of_files_is_free(tmp_path, name, statistics, left):
    for file, content in (("max", "700\n"), ("current", "500\n"), ("stat", statistics)):
        (tmp_path / file).write_text(content)
    assert memory._of_group(*(str(tmp_path / file) for file in ("max", "current", "stat")), name) == left
