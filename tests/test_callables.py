"""Functions of the user's own: found by name, and named so that another process finds them."""

import math

import pytest

from dropkit.callables import code_of, import_function, name_of, names_function
from dropkit.errors import DropkitError
from dropkit.runs.config import TrainConfig


@pytest.mark.parametrize("text", ["a:b", "a.b:c", "dir/file.py:f", "C:\\dir\\file.py:f"])
def test_a_function_has_a_colon_before_its_name(text):
    assert names_function(text)


@pytest.mark.parametrize("text", ["flip,crop", "none", ":f", "a:", "a:b c", "a:1"])
def test_other_texts_have_not(text):
    assert not names_function(text)


def test_a_name_and_its_function_are_each_others_inverse():
    assert import_function("augment", name_of("augment", math.floor)) is math.floor


def test_a_file_is_run_once(tmp_path):
    (tmp_path / "once.py").write_text("def f():\n    return 3\n")
    first = import_function("augment", f"{tmp_path}/once.py:f")
    assert first() == 3
    assert import_function("augment", f"{tmp_path}/once.py:f") is first


def test_a_module_beside_the_user_is_found(tmp_path, monkeypatch):
    (tmp_path / "beside_the_user.py").write_text("def f():\n    return 5\n")
    monkeypatch.chdir(tmp_path)
    assert import_function("augment", "beside_the_user:f")() == 5


@pytest.mark.parametrize("function", [lambda images: images, math.floor.__call__])
def test_what_no_other_process_could_import_is_refused(function):
    with pytest.raises(DropkitError, match="must be a function at the top of a module"):
        name_of("augment", function)


def test_a_config_takes_the_function_itself():
    assert TrainConfig(data="digits", augment=math.floor).augment == "math:floor"


def test_code_is_told_apart_by_its_file(tmp_path):
    path = tmp_path / "coded.py"
    path.write_text("def f(images):\n    return images\nnumber = 3\n")
    first = code_of("augment", f"{path}:f")
    assert first == code_of("augment", f"{path}:f")
    path.write_text("def f(images):\n    return images + 1\n")
    assert code_of("augment", f"{path}:f") != first
    assert code_of("augment", "flip,crop") is None
    assert code_of("augment", None) is None


def test_what_is_no_function_is_said_to_be_none(tmp_path):
    (tmp_path / "numbers_only.py").write_text("number = 3\n")
    with pytest.raises(DropkitError, match="'number' is int, but a function is needed"):
        import_function("augment", f"{tmp_path}/numbers_only.py:number")
