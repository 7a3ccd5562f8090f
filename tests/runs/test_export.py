"""Exported networks: the run's answers, no random operation, any number of pictures; a checked file or none."""

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dropkit.errors import DropkitError
from dropkit.layers.weights import DropConnect
from dropkit.runs import export
from dropkit.runs.config import TrainConfig
from dropkit.runs.export import PictureNetwork, compare, expected_logits, export_run, traced, written_and_opened
from dropkit.runs.export_forms import FORMS, METADATA, Opened, random_in_onnx, random_operations
from dropkit.runs.fitting import build_model
from dropkit.runs.training import computing_threads, load_data, train

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
SHAPE = (1, 8, 8)
MEAN, STD = torch.full((1, 1, 1), 101.0), torch.full((1, 1, 1), 53.0)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on more."""
    with computing_threads(1):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the run of a short training of a network, trained once."""
    kept = {}

    def run(model="mlp", dropout="fc=0.5"):
        if model not in kept:
            config = TrainConfig(
                data="digits",
                model=model,
                dropout=dropout,
                epochs=1,
                max_train=200,
                threads=1,
                precision="float32",
                out=str(tmp_path_factory.mktemp("run")),
            )
            kept[model] = train(config, progress=False, page=False)
        return kept[model]

    return run


def raw_pictures(run):
    """Return all test pictures of a run, uint8, and the logits that are on record for them."""
    pictures, split = load_data(run.config)
    return pictures.read(split.test), run.test_predictions()[0]


def as_onnxruntime_runs(file):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"pictures": x.numpy()})[0])


def as_torch_runs(file):
    return torch.export.load(file).module()


def run_the_pages_code(number, folder, monkeypatch):
    """Run one of the examples of docs/export.md beside a file of the usual name."""
    monkeypatch.chdir(folder)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(blocks[number], "docs/export.md", "exec"), {})


def test_onnx_says_what_the_run_said_and_knows_its_classes(runs, monkeypatch, capsys):
    import onnx

    run = runs("bn-cnn", "conv=channel:0.1,head=0.5")
    done = export_run(run)
    assert (done.file, done.real, done.pictures) == (run.folder / "model.onnx", True, 64)
    assert done.size == done.file.stat().st_size
    assert 0 < done.difference <= done.allowed
    pictures, known = raw_pictures(run)
    network = as_onnxruntime_runs(done.file)
    for start, count in ((0, 1), (1, 7), (8, 131)):
        part = slice(start, start + count)
        torch.testing.assert_close(network(pictures[part]), known[part], atol=1e-4, rtol=1e-4)
    model = onnx.load(done.file)
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["class_names"]) == [str(digit) for digit in range(10)]
    assert (told["dropout"], told["model"]) == ("conv=channel:0.1,head=0.5", "bn-cnn")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 1, 8, 8]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not {node.op_type for node in model.graph.node} & {"Dropout", "Bernoulli", "RandomUniformLike"}
    assert b".py" not in done.file.read_bytes()  # nothing of this machine's folders
    run_the_pages_code(0, run.folder, monkeypatch)
    assert re.fullmatch(r"\[('\d', ){4}'\d'\]\n", capsys.readouterr().out)


# What torch itself does when it reads the file that it wrote.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_pt2_says_what_the_run_said_and_knows_its_classes(runs, tmp_path, monkeypatch, capsys):
    run = runs()
    done = export_run(run, to="pt2", out=tmp_path / "model.pt2")
    assert done.file == tmp_path / "model.pt2"
    pictures, known = raw_pictures(run)
    network = as_torch_runs(done.file)
    for count in (1, 7):
        torch.testing.assert_close(network(pictures[:count]), known[:count], atol=1e-4, rtol=1e-4)
    extra = {METADATA: ""}
    torch.export.load(done.file, extra_files=extra)
    assert json.loads(extra[METADATA])["class_names"] == [str(digit) for digit in range(10)]
    assert b".py" not in done.file.read_bytes()
    with pytest.raises(RuntimeError, match="dtype"):  # pictures from 0 to 1 would be taken for black ones
        network(pictures[:2] / 255)
    run_the_pages_code(1, done.file.parent, monkeypatch)
    assert capsys.readouterr().out == f"{[str(digit) for digit in range(10)]}\n"


def test_what_was_done_is_told(runs, tmp_path):
    done = export_run(runs(), to="pt2", out=tmp_path / "net.pt2")
    lines = str(done).splitlines()
    assert lines[0] == f"{tmp_path / 'net.pt2'}: 1.2 MB"
    assert lines[1] == (
        "input pictures: uint8 [N, 1, 8, 8], 0 to 255, not normalised; output logits: [N, 10]; no dropout"
    )
    assert lines[2].startswith("checked on 64 test pictures of the run: logits within ")
    assert lines[2].endswith(" is allowed")
    told = json.loads(json.dumps(done.as_json()))
    assert (told["form"], told["shape"], told["classes"], told["real"]) == ("pt2", [1, 8, 8], 10, True)
    random = dataclasses.replace(done, real=False)
    assert "checked on 64 random pictures: " in str(random)
    assert str(random).endswith("; the run's test pictures are not where they were")


# Every network and every kind of dropout


def exported_equals_eval(network, form="pt2"):
    """Export a network in training mode, and compare the file with it: (difference, allowed)."""
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    _, opened = written_and_opened(PictureNetwork(network.train(), MEAN, STD), SHAPE, FORMS[form], {})
    return compare(opened, pictures, expected_logits(network.eval(), (pictures.float() - MEAN) / STD))


def drawn_in_training(network):
    return random_operations(traced(PictureNetwork(network, MEAN, STD).train(), SHAPE))


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        ("cnn", "input=0.1,conv=dropblock:0.1/3"),
        ("cnn", "conv=concrete:0.1,fc=0.5"),
        ("mlp", "fc[0]=alpha:0.1,fc[1]=gaussian:0.2"),
        ("mlp", "fc=connect:0.3"),
        ("bn-cnn", "conv=feature-alpha:0.1"),
        ("res-cnn", "path=0.3,conv=channel:0.1"),
    ],
)
def test_every_kind_of_dropout_is_gone(model, policy):
    network = build_model(TrainConfig(data="digits", model=model, dropout=policy), SHAPE, 10)
    difference, allowed = exported_equals_eval(network)
    assert difference <= allowed < 1e-2
    if model == "mlp":  # the others take longer
        assert any(name.startswith("dropkit.") for name in drawn_in_training(network))


@pytest.mark.parametrize("form", FORMS)
def test_the_moments_of_dropped_weights_are_exported(form):
    torch.manual_seed(0)
    drop = DropConnect(nn.Linear(64, 13), 0.4, evaluation="moments")
    network = nn.Sequential(nn.Flatten(), drop, nn.ReLU(), nn.Linear(13, 3))
    difference, allowed = exported_equals_eval(network, form)
    assert difference <= allowed


class Attentive(nn.Module):
    """Functional dropout, attention with dropout and a random slope: in eval, none of them draws."""

    def __init__(self):
        super().__init__()
        self.slope, self.fc = nn.RReLU(), nn.Linear(64, 3)

    def forward(self, x):
        x = F.dropout(self.slope(x), 0.3, self.training)
        x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)
        return self.fc(x.flatten(1))


def test_what_is_told_not_to_draw_is_not_random():
    torch.manual_seed(0)
    assert exported_equals_eval(Attentive())[0] < 1e-5
    found = drawn_in_training(Attentive())
    assert any("rrelu" in name for name in found)
    assert any("attention" in name for name in found)
    assert any("bernoulli" in name or "dropout" in name for name in found)


def test_a_librarys_network_is_exported_from_the_start(libraries):
    config = TrainConfig(data="digits", model="timm:test_resnet", dropout="layer2=dropblock:0.1/3,fc=0.2")
    assert exported_equals_eval(build_model(config, SHAPE, 10))[0] < 1e-4


def test_a_frozen_network_and_its_head_take_pictures_as_they_are(short, published):
    config = short(model="timm:test_resnet", pretrained=True, dropout="head=0.5", image_size="9", max_train=40)
    run = train(dataclasses.replace(config, epochs=1, precision="float32"), progress=False, page=False)
    done = export_run(run)
    assert done.shape == (1, 9, 9)  # grey: made coloured inside
    pictures, known = raw_pictures(run)
    network = FORMS["onnx"].opened(done.file.read_bytes()).network
    torch.testing.assert_close(network(pictures[:7]), known[:7], atol=1e-4, rtol=1e-4)


# What fails leaves nothing, and what was there stays


@pytest.fixture
def older(tmp_path):
    """Return where files of both forms are that a failed export is to leave alone: their name without its end."""
    files = [tmp_path / f"older.{form}" for form in FORMS]
    for file in files:
        file.write_bytes(b"older")
    yield tmp_path / "older"
    assert all(file.read_bytes() == b"older" for file in files)
    assert sorted(tmp_path.iterdir()) == sorted(files)


def other_forward(change):
    plain = PictureNetwork.forward
    return lambda self, pictures: change(plain(self, pictures))


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        (
            "onnx",
            lambda y: y + 0.01,
            r"logits differ from the network's by 1.0e-02, where 1\..e-04 is allowed: .*written$",
        ),
        (
            "pt2",
            lambda y: y + 0.01,
            r"logits differ from the network's by 1.0e-02, where 1\..e-04 is allowed: .*written$",
        ),
        (
            "pt2",
            lambda y: F.dropout(y, 0.5, True),
            r"draws random numbers in eval mode too \(aten\..*Nothing was written$",
        ),
        ("pt2", lambda y: y[:, :9], r"logits are \[1, 9\], the network's \[1, 10\]\. Nothing was written$"),
        ("pt2", lambda y: y * math.nan, r"differ from the network's by nan"),
        ("pt2", lambda y: y if y.sum() > 0 else -y, r"torch cannot follow its code \(.*branch on values"),
        (
            "pt2",
            lambda y: y.view(2, 10),
            r"torch cannot follow its code \(.*the number of pictures. Nothing was written$",
        ),
    ],
)
def test_a_file_that_differs_is_not_written(runs, older, monkeypatch, capfd, form, change, message):
    monkeypatch.setattr(PictureNetwork, "forward", other_forward(change))
    with pytest.raises(DropkitError, match=message):
        export_run(runs(), to=form, out=older.with_suffix(f".{form}"))
    assert capfd.readouterr() == ("", "")


def test_masks_in_eval_mode_are_refused_by_name(runs, older, monkeypatch):
    import dropkit

    monkeypatch.setattr(PictureNetwork, "forward", other_forward(lambda y: dropkit.functional.dropout(y, 0.5)))
    with pytest.raises(DropkitError, match="draws random numbers in eval mode too .*dropkit.drop"):
        export_run(runs(), out=older.with_suffix(".onnx"))


def test_an_operation_that_onnx_has_not_leads_to_the_other_form(runs, older, monkeypatch):
    monkeypatch.setattr(PictureNetwork, "forward", other_forward(lambda y: F.rrelu(y, 1.0, 1.0)))
    with pytest.raises(DropkitError, match=r"no form in ONNX \(No ONNX function .*rrelu.*--to pt2. Nothing was"):
        export_run(runs(), out=older.with_suffix(".onnx"))


def test_random_operations_are_found_wherever_they_are_in_an_onnx_file():
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    draws = helper.make_node("Bernoulli", ["x"], ["y"])
    inner = helper.make_graph([draws], "inner", [], [value])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    function = helper.make_function("own", "f", ["x"], ["y"], [helper.make_node("Dropout", ["x"], ["y"])], [])
    graph = helper.make_graph([branch], "outer", [], [value])
    assert random_in_onnx(helper.make_model(graph, functions=[function])) == ["Bernoulli", "Dropout"]


def test_what_is_random_in_the_file_alone_is_found(runs, older, monkeypatch):
    plain = FORMS["pt2"]
    opened = lambda content: Opened(plain.opened(content).network, ["Bernoulli"])
    monkeypatch.setitem(FORMS, "pt2", dataclasses.replace(plain, opened=opened))
    with pytest.raises(DropkitError, match=r"draws random numbers in eval mode too \(Bernoulli\)"):
        export_run(runs(), to="pt2", out=older.with_suffix(".pt2"))


def test_a_file_that_cannot_be_read_back_is_not_kept(runs, older, monkeypatch):
    broken = dataclasses.replace(FORMS["onnx"], content=lambda program, metadata: b"none")
    monkeypatch.setitem(FORMS, "onnx", broken)
    with pytest.raises(DropkitError, match=r"the file cannot be read back \(.*\). Nothing was written"):
        export_run(runs(), out=older.with_suffix(".onnx"))


def test_a_file_that_runs_on_some_batches_only_is_not_kept():
    def fixed(pictures):
        if len(pictures) == 1:
            raise RuntimeError("expected 2\nmore")
        return torch.zeros(len(pictures), 3)

    pictures = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    with pytest.raises(DropkitError, match=r"cannot be run on a batch of 1 \(RuntimeError: expected 2\)$"):
        compare(fixed, pictures, [torch.zeros(1, 3), torch.zeros(1, 3)])


def test_a_network_whose_logits_are_not_finite_is_refused(runs, older, monkeypatch):
    run = runs()
    broken = run.model()
    nn.init.constant_(next(broken.parameters()), math.inf)
    monkeypatch.setattr(type(run), "model", lambda self: broken)
    with pytest.raises(DropkitError, match="own logits are not all finite: train it again"):
        export_run(run, out=older.with_suffix(".onnx"))


def test_a_run_without_a_network_is_refused(runs, older):
    run = dataclasses.replace(runs(), summary={**runs().summary, "test": None})
    with pytest.raises(DropkitError, match="diverged before an epoch was finished: it has no network"):
        export_run(run, out=older.with_suffix(".onnx"))


def test_a_missing_extra_is_named_before_any_work(runs, older, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(export, "reread_test_pictures", None)
    with pytest.raises(DropkitError, match=r"--to onnx needs packages .*pip install 'dropkit\[export\]'"):
        export_run(runs(), out=older.with_suffix(".onnx"))


@pytest.mark.parametrize(
    ("to", "out", "message"),
    [
        ("onx", "x", "unknown form 'onx': allowed are onnx, pt2. Did you mean 'onnx'?"),
        ("onnx", ".", "'.' is a folder: give a file with --out, such as 'model.onnx'"),
        ("onnx", "x.pt2", "'x.pt2' would hold the form onnx: add --to pt2, or give a name with .onnx"),
        ("pt2", "x.ONNX", "'x.ONNX' would hold the form pt2: add --to onnx, or give a name with .pt2"),
        ("onnx", "x", "'x' would hold the form onnx: give a name with .onnx, such as model.onnx"),
        ("pt2", "x.bin", "'x.bin' would hold the form pt2: give a name with .pt2, such as model.pt2"),
        ("pt2", "a" * 300 + ".pt2", "cannot write"),
        ("pt2", "file/x.pt2", "there is no folder 'file' for the network: make it, or give another name"),
        ("onnx", "new/x.onnx", "there is no folder 'new' for the network: make it, or give another name"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_a_message(runs, tmp_path, monkeypatch, to, out, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(DropkitError) as raised:
        export_run(runs(), to=to, out=out)
    assert message in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_file_of_the_runs_own_is_replaced(runs):
    run = runs()
    before = {file: file.read_bytes() for file in run.folder.iterdir() if file.suffix.lower() not in (".onnx", ".pt2")}
    assert {"config.json", "model.safetensors", "test.safetensors"} <= {file.name for file in before}
    for file in before:
        for form in FORMS:
            with pytest.raises(DropkitError, match=f"would hold the form {form}: give a name with .{form}"):
                export_run(run, to=form, out=file)
    assert {file: file.read_bytes() for file in before} == before


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr(export, "reread_test_pictures", None)
    with pytest.raises(DropkitError, match="cannot write to the folder .*, where the network is to stand"):
        export_run(runs(), to="pt2", out=tmp_path / "x.pt2")


def test_weights_too_large_for_onnx_lead_to_the_other_form(monkeypatch):
    program = traced(PictureNetwork(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), MEAN, STD), SHAPE)
    monkeypatch.setattr("dropkit.runs.export_forms._MOST_ONNX_BYTES", 100)
    with pytest.raises(DropkitError, match=r"holds less than 2 GiB, and .* take 0\.0: export it with --to pt2"):
        FORMS["onnx"].content(program, {})


def test_random_pictures_take_the_place_of_those_that_are_gone(runs, tmp_path, monkeypatch):
    seen = []
    plain = export.compare
    monkeypatch.setattr(export, "compare", lambda *given: (seen.append(given[1]), plain(*given))[1])
    monkeypatch.setattr(export, "reread_test_pictures", lambda run, most: None)
    done = export_run(runs(), to="pt2", out=tmp_path / "net.pt2")
    assert (done.real, done.pictures) == (False, 64)
    assert seen[0].shape == (64, *SHAPE)
    assert len(np.unique(seen[0])) == 256
