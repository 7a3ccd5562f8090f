"""The environment names what produced a run."""

import json
import os

import torch

from dropkit.runs.environment import describe_environment


def test_versions_and_hardware_are_named():
    found = describe_environment(torch.device("cpu"), torch.bfloat16)
    assert json.loads(json.dumps(found)) == found
    assert (found["torch"], found["precision"], found["device"]) == (torch.__version__, "bfloat16", "cpu")
    assert found["cores"] == os.cpu_count()
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu"]
