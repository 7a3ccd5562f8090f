"""The functional forms, with torch.nn.functional's signatures where it has them."""

from dropkit.layers.alpha import alpha_dropout as alpha_dropout
from dropkit.layers.alpha import feature_alpha_dropout as feature_alpha_dropout
from dropkit.layers.blocks import drop_block1d as drop_block1d
from dropkit.layers.blocks import drop_block2d as drop_block2d
from dropkit.layers.blocks import drop_block3d as drop_block3d
from dropkit.layers.channels import dropout1d as dropout1d
from dropkit.layers.channels import dropout2d as dropout2d
from dropkit.layers.channels import dropout3d as dropout3d
from dropkit.layers.gaussian import gaussian_dropout as gaussian_dropout
from dropkit.layers.paths import drop_path as drop_path
from dropkit.layers.relu import relu_dropout as relu_dropout
from dropkit.layers.units import dropout as dropout
