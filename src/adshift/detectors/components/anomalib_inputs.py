"""Images as anomalib's models take them: tensors, a lightning data module, and the pre-processor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adshift.errors import AdshiftError
from adshift.features.store import Features


def batch(images: np.ndarray) -> Any:
    """(N, h, w, 3) uint8 as (N, 3, h, w) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float().div_(255)


def normalizing(method: str, pre_processor: Any, mean: Sequence[float] | None, std: Sequence[float] | None) -> Any:
    """The pre-processor of a method's model, which normalizes with this mean and deviation where they are given.

    Raises:
        AdshiftError: they are given, and the model does not normalize.
    """
    from torchvision.transforms.v2 import Normalize

    transforms = (pre_processor.transform, pre_processor.export_transform)  # of training, and of scoring
    steps = [step for one in transforms for step in getattr(one, "transforms", [one]) if isinstance(step, Normalize)]
    if (mean or std) and not steps:
        raise AdshiftError(
            f"params.yaml: {method}: this model of anomalib does not normalize its inputs", "leave mean and std out"
        )
    for step in steps:
        step.mean, step.std = list(mean or step.mean), list(std or step.std)
    return pre_processor


def data(features: Features, size: int, generator: Any) -> Any:
    """The training images as a lightning data module, in an order drawn from `generator` in every epoch."""
    import torch
    from anomalib.data import ImageBatch
    from lightning.pytorch import LightningDataModule
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return len(features)

        def __getitem__(self, index: int) -> Any:
            return batch(features[index : index + 1].images())[0]

    def collated(images: list[Any]) -> Any:
        label = torch.zeros(len(images), dtype=torch.bool)
        mask = torch.zeros(len(images), *images[0].shape[1:], dtype=torch.bool)
        return ImageBatch(image=torch.stack(images), gt_label=label, gt_mask=mask)

    class Data(LightningDataModule):
        train_batch_size, name, category = size, "adshift", "object"

        def train_dataloader(self) -> Any:
            return DataLoader(Images(), size, shuffle=True, generator=generator, collate_fn=collated, num_workers=0)

    return Data()
