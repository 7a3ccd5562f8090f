"""Dropout for PyTorch convolutional networks: put it where it pays, and know that it did.

Names are imported when they are first used, so that `import dropkit` and `dropkit --help` cost next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dropkit import functional as functional
    from dropkit.errors import DropkitError as DropkitError
    from dropkit.layers.channels import Dropout1d as Dropout1d
    from dropkit.layers.channels import Dropout2d as Dropout2d
    from dropkit.layers.channels import Dropout3d as Dropout3d
    from dropkit.layers.keyed import keyed as keyed
    from dropkit.layers.relu import ReLUDropout as ReLUDropout
    from dropkit.layers.units import Dropout as Dropout
    from dropkit.models.bn_cnn import BatchNormCNN as BatchNormCNN
    from dropkit.models.cnn import CNNWithDropout as CNNWithDropout
    from dropkit.models.mlp import MLP as MLP
    from dropkit.runs.config import TrainConfig as TrainConfig
    from dropkit.runs.run import Run as Run
    from dropkit.runs.training import train as train
    from dropkit.studies.compare import compare as compare
    from dropkit.studies.study import Study as Study

_HOMES = {
    "functional": "dropkit.functional",
    "DropkitError": "dropkit.errors",
    "Dropout": "dropkit.layers.units",
    "Dropout1d": "dropkit.layers.channels",
    "Dropout2d": "dropkit.layers.channels",
    "Dropout3d": "dropkit.layers.channels",
    "ReLUDropout": "dropkit.layers.relu",
    "keyed": "dropkit.layers.keyed",
    "BatchNormCNN": "dropkit.models.bn_cnn",
    "CNNWithDropout": "dropkit.models.cnn",
    "MLP": "dropkit.models.mlp",
    "TrainConfig": "dropkit.runs.config",
    "Run": "dropkit.runs.run",
    "train": "dropkit.runs.training",
    "compare": "dropkit.studies.compare",
    "Study": "dropkit.studies.study",
}
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # costs more than all the rest of this import

        return version("dropkit")
    if name not in _HOMES:
        raise AttributeError(f"module 'dropkit' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    value = module if name == "functional" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
