"""The functional forms, with torch.nn.functional's signatures."""

from dropkit.layers.channels import dropout1d as dropout1d
from dropkit.layers.channels import dropout2d as dropout2d
from dropkit.layers.channels import dropout3d as dropout3d
from dropkit.layers.relu import relu_dropout as relu_dropout
from dropkit.layers.units import dropout as dropout
