"""Lines of the user's code: they are found wherever the user keeps it."""

import importlib.util

import pytest
import torch

from dropkit.models.check.check import check
from dropkit.models.functional_calls import functional_dropout

CODE = """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(F.dropout(x, 0.3))
"""


@pytest.mark.parametrize("folder", ["code", "torch"])
def test_code_in_a_folder_of_any_name(tmp_path, folder):
    file = tmp_path / folder / "net.py"
    file.parent.mkdir()
    file.write_text(CODE)
    spec = importlib.util.spec_from_file_location("net_of_the_users", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = torch.ones(2, 5)
    (finding,) = check(module.Net(), x)
    assert (finding.code, finding.where) == ("DK001", f"{file}:11")
    (call,) = functional_dropout(module.Net(), x)
    assert call.source == f"{file}:11"
