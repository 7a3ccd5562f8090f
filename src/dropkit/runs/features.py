"""The features that a frozen network makes of all pictures: computed once, kept on disk, shared by a study's runs.

A folder `features/` has a sub-folder for each network, with

weights.safetensors     the frozen network's weights, as they were when the features were first computed
KEY.safetensors         features [n, F] of n pictures and their indices [n]; KEY stands for pictures, preprocessing,
                        weights, and indices where not all are needed

so that nothing of a run depends on what a library publishes later, and a prediction downloads nothing.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dropkit.data.counting import counting
from dropkit.data.pictures import Pictures
from dropkit.data.split import Split
from dropkit.errors import DropkitError
from dropkit.files import make_folder
from dropkit.models.networks import Shape, build_backbone
from dropkit.models.zoo import Preprocessing, preprocessing
from dropkit.runs.batches import Batches
from dropkit.runs.checkpoint import load_weights, read_metadata, read_tensors, write_tensors
from dropkit.runs.config import TrainConfig, safe_name

Indices = NDArray[np.int64]

BATCH = 64  # pictures: at 224x224 the first maps of a large network take some 200 MB


@dataclass(frozen=True, eq=False)
class Features:
    """What a frozen network makes of pictures.

    Attributes:
        values: float32 [N, F], on the CPU, in the pictures' order; NaN for pictures that nobody needed.
        weights: hash of the frozen network's weights.
    """

    values: Tensor
    weights: str


class FeatureFolder:
    """Where the features of one network are kept.

    Args:
        path: the folder `features` of a run or a study.
        model: `timm:NAME` or `torchvision:NAME`.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.model = model
        self.path = path / safe_name(model)
        self.weights = self.path / "weights.safetensors"

    def backbone(self, shape: Shape) -> nn.Module:
        """Return the frozen network with the weights that are kept here.

        Raises:
            DropkitError: if they are not here.
        """
        if not self.weights.is_file():
            raise DropkitError(
                f"the weights of the frozen network are missing: they are kept in {str(self.weights)!r}. Runs of a "
                f"study use those in the study's folder: leave them in it, or restore it"
            )
        model = build_backbone(self.model, input_shape=shape, download=False)
        load_weights(model, self.weights, self.model)
        return model

    def load_or_compute(
        self, pictures: Pictures, device: torch.device, *, needed: Indices | None = None, progress: bool = False
    ) -> Features:
        """Return the pictures' features; the first call computes and keeps them.

        Args:
            pictures: all pictures.
            device: where to compute.
            needed: sorted indices [n] of the pictures that matter; None for all.
            progress: show progress on standard error.

        Raises:
            DropkitError: if the weights cannot be had, or the folder cannot be written.
        """
        expected, backbone = preprocessing(self.model), None
        if self.weights.is_file():
            digest = read_metadata(self.weights)["hash"]
        else:
            backbone = build_backbone(self.model, input_shape=coloured(pictures.shape))
            digest = hash_of(backbone)
            make_folder(self.path)
            write_tensors(self.weights, backbone.state_dict(), {"hash": digest, "model": self.model})
        everything = self._place(pictures, expected, digest, None)
        place = everything if everything.is_file() else self._place(pictures, expected, digest, needed)
        if not place.is_file():
            backbone = self.backbone(coloured(pictures.shape)) if backbone is None else backbone
            chosen = torch.arange(len(pictures)) if needed is None else torch.from_numpy(needed)
            values = compute_features(backbone, pictures, expected, device, chosen, progress=progress)
            write_tensors(place, {"features": values, "indices": chosen})
        kept = read_tensors(place)[0]
        return Features(_spread(kept["features"], kept["indices"], len(pictures)), digest)

    def _place(self, pictures: Pictures, expected: Preprocessing, weights: str, needed: Indices | None) -> Path:
        told = {"pictures": pictures.fingerprint, "weights": weights, **asdict(expected)}
        if needed is not None:
            told["needed"] = hashlib.sha256(needed.astype("<i8").tobytes()).hexdigest()
        return self.path / f"{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]}.safetensors"


def features_in_memory(model: str, pictures: Pictures, split: Split, device: torch.device) -> Features:
    """Return the features of a split's pictures without keeping them."""
    backbone = build_backbone(model, input_shape=coloured(pictures.shape))
    needed = needed_by(pictures, split)
    chosen = torch.arange(len(pictures)) if needed is None else torch.from_numpy(needed)
    values = compute_features(backbone, pictures, preprocessing(model), device, chosen, progress=False)
    return Features(_spread(values, chosen, len(pictures)), hash_of(backbone))


def needed_by(pictures: Pictures, split: Split) -> Indices | None:
    """Return the sorted indices of the pictures in a split; None where it has all."""
    indices = np.unique(np.concatenate([split.train, split.val, split.test]))
    return None if len(indices) == len(pictures) else indices.astype(np.int64)


def compute_features(
    backbone: nn.Module,
    pictures: Pictures,
    expected: Preprocessing,
    device: torch.device,
    indices: Tensor,
    *,
    progress: bool,
) -> Tensor:
    """Return the features, float32 [n, F] on the CPU, that a frozen network makes of the pictures at `indices`."""
    nothing = np.zeros(0, dtype=np.int64)
    whole = Split(np.arange(len(pictures)), nothing, nothing, seed=0, how="all")
    data = Batches(pictures, whole, device, statistics=(expected.mean, expected.std))
    backbone = backbone.to(device).eval()
    parts = []
    with counting("computing features", len(indices), show=progress) as tick, torch.inference_mode():
        for part in indices.split(BATCH):
            parts.append(backbone(data.read(part)[0]).float().cpu())
            tick(len(part))
    return torch.cat(parts)


def _spread(values: Tensor, indices: Tensor, count: int) -> Tensor:
    """Return the features in rows of all `count` pictures; a row that was not computed is NaN, to be noticed."""
    if len(values) == count:
        return values
    rows = torch.full((count, values.shape[1]), torch.nan)
    rows[indices] = values
    return rows


def image_size_of(config: TrainConfig) -> str | None:
    """Return the size to which pictures are brought: as asked, else that of the published weights, if any."""
    if config.image_size is not None or not config.published_weights:
        return config.image_size
    height, width = preprocessing(config.model).size
    return f"{height}x{width}"


def coloured(shape: Shape) -> Shape:
    """Return the shape of the pictures in colour, as networks with published weights read them."""
    return (3, *shape[1:])


def hash_of(model: nn.Module) -> str:
    """Return what stands for all of a network's weights: sixteen hex digits."""
    whole = hashlib.sha256()
    for name, value in model.state_dict().items():
        whole.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        whole.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]
