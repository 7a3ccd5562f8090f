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
    assert memory._of_group(str(tmp_path / "max"), str(tmp_path / "current")) == left
    assert memory._of_group(str(tmp_path / "none"), str(tmp_path / "current")) is None
