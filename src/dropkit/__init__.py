"""Dropout for PyTorch convolutional networks: put it where it pays, and know that it did.

Names are imported when they are first used, so that `import dropkit` and `dropkit --help` cost next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dropkit import functional as functional
    from dropkit.errors import DropkitError as DropkitError
    from dropkit.layers import schedule as schedule
    from dropkit.layers.alpha import AlphaDropout as AlphaDropout
    from dropkit.layers.alpha import FeatureAlphaDropout as FeatureAlphaDropout
    from dropkit.layers.blocks import DropBlock1d as DropBlock1d
    from dropkit.layers.blocks import DropBlock2d as DropBlock2d
    from dropkit.layers.blocks import DropBlock3d as DropBlock3d
    from dropkit.layers.channels import Dropout1d as Dropout1d
    from dropkit.layers.channels import Dropout2d as Dropout2d
    from dropkit.layers.channels import Dropout3d as Dropout3d
    from dropkit.layers.gaussian import GaussianDropout as GaussianDropout
    from dropkit.layers.keyed import keyed as keyed
    from dropkit.layers.learned import ConcreteDropout as ConcreteDropout
    from dropkit.layers.learned import ConcreteDropout2d as ConcreteDropout2d
    from dropkit.layers.learned import concrete_loss as concrete_loss
    from dropkit.layers.paths import DropPath as DropPath
    from dropkit.layers.paths import Residual as Residual
    from dropkit.layers.paths import linear_rates as linear_rates
    from dropkit.layers.relu import ReLUDropout as ReLUDropout
    from dropkit.layers.units import Dropout as Dropout
    from dropkit.layers.weights import DropConnect as DropConnect
    from dropkit.models.bn_cnn import BatchNormCNN as BatchNormCNN
    from dropkit.models.check.check import check as check
    from dropkit.models.check.finding import Finding as Finding
    from dropkit.models.cnn import CNNWithDropout as CNNWithDropout
    from dropkit.models.max_norm import max_norm as max_norm
    from dropkit.models.mlp import MLP as MLP
    from dropkit.models.res_cnn import ResidualCNN as ResidualCNN
    from dropkit.models.sites import Site as Site
    from dropkit.models.surgery import Change as Change
    from dropkit.models.surgery import convert as convert
    from dropkit.models.surgery import insert as insert
    from dropkit.models.surgery import remove as remove
    from dropkit.models.surgery import set_rate as set_rate
    from dropkit.models.surgery import sites as sites
    from dropkit.runs.config import TrainConfig as TrainConfig
    from dropkit.runs.run import Run as Run
    from dropkit.runs.training import train as train
    from dropkit.studies.compare import compare as compare
    from dropkit.studies.evidence.kept import evidence as evidence
    from dropkit.studies.reproduce import reproduce as reproduce
    from dropkit.studies.reproduction import Reproduction as Reproduction
    from dropkit.studies.study import Study as Study
    from dropkit.studies.tune import tune as tune
    from dropkit.uncertainty.prediction import Prediction as Prediction
    from dropkit.uncertainty.prediction import predict as predict
    from dropkit.uncertainty.sampling import sample as sample

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
    "evidence": "dropkit.studies.evidence.kept",
    "tune": "dropkit.studies.tune",
    "reproduce": "dropkit.studies.reproduce",
    "Reproduction": "dropkit.studies.reproduction",
    "AlphaDropout": "dropkit.layers.alpha",
    "FeatureAlphaDropout": "dropkit.layers.alpha",
    "GaussianDropout": "dropkit.layers.gaussian",
    "DropBlock1d": "dropkit.layers.blocks",
    "DropBlock2d": "dropkit.layers.blocks",
    "DropBlock3d": "dropkit.layers.blocks",
    "DropPath": "dropkit.layers.paths",
    "Residual": "dropkit.layers.paths",
    "linear_rates": "dropkit.layers.paths",
    "DropConnect": "dropkit.layers.weights",
    "ConcreteDropout": "dropkit.layers.learned",
    "ConcreteDropout2d": "dropkit.layers.learned",
    "concrete_loss": "dropkit.layers.learned",
    "check": "dropkit.models.check.check",
    "Finding": "dropkit.models.check.finding",
    "max_norm": "dropkit.models.max_norm",
    "ResidualCNN": "dropkit.models.res_cnn",
    "Site": "dropkit.models.sites",
    "Change": "dropkit.models.surgery",
    "convert": "dropkit.models.surgery",
    "insert": "dropkit.models.surgery",
    "remove": "dropkit.models.surgery",
    "set_rate": "dropkit.models.surgery",
    "sites": "dropkit.models.surgery",
    "schedule": "dropkit.layers.schedule",
    "sample": "dropkit.uncertainty.sampling",
    "predict": "dropkit.uncertainty.prediction",
    "Prediction": "dropkit.uncertainty.prediction",
}
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # costs more than all the rest of this import

        return version("dropkit")
    if name not in _HOMES:
        raise AttributeError(f"module 'dropkit' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    value = module if name in ("functional", "schedule") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
