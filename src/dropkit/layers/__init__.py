"""Layers: dropout as modules and as functions, drop-in for torch.nn's, on the masks of `dropkit.masks`."""

from dropkit.layers.base import DropLayer as DropLayer
from dropkit.layers.channels import Dropout1d as Dropout1d
from dropkit.layers.channels import Dropout2d as Dropout2d
from dropkit.layers.channels import Dropout3d as Dropout3d
from dropkit.layers.channels import dropout1d as dropout1d
from dropkit.layers.channels import dropout2d as dropout2d
from dropkit.layers.channels import dropout3d as dropout3d
from dropkit.layers.keyed import keyed as keyed
from dropkit.layers.relu import ReLUDropout as ReLUDropout
from dropkit.layers.relu import relu_dropout as relu_dropout
from dropkit.layers.units import Dropout as Dropout
from dropkit.layers.units import dropout as dropout
