"""Images through a frozen network into a store of feature maps (`adshift.features.Features.open` reads it)."""

from pathlib import Path

import numpy as np

from adshift.backbones import Backbone
from adshift.errors import AdshiftError
from adshift.features import IMAGES
from adshift.images import fit, load_image
from adshift.manifest import Item
from adshift.parallel import map_ordered
from adshift.stage import write_json


def embed(items: list[Item], backbone: Backbone, folder: Path, *, what: str) -> None:
    """Write the feature maps of `items` as one array (N, H, W, C) a layer, and features.json; the images if asked for.

    Batches are fixed by their position, each runs on one thread and writes its own rows: the bytes do not depend on the
    number of threads, and memory does not grow with the number of images.

    Raises:
        AdshiftError: an image changed or cannot be read, or values overflow the stored type.
    """
    import torch

    torch.set_num_threads(1)
    settings = backbone.settings
    folder.mkdir(parents=True)
    size = settings.crop or settings.resize
    shapes = [maps.shape[1:] for maps in backbone(np.zeros((1, size, size, 3), np.uint8))]
    files = [f"level{level}.npy" for level in range(1, len(shapes) + 1)]
    arrays = [
        np.lib.format.open_memmap(folder / file, "w+", np.dtype(settings.dtype), (len(items), *shape))
        for file, shape in zip(files, shapes, strict=True)
    ]

    shape = (len(items), size, size, 3)
    kept = [np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, shape)] if settings.images else []

    def work(start: int) -> None:
        batch = items[start : start + settings.batch]
        images = np.stack([fit(load_image(item), settings.resize, settings.crop) for item in batch])
        for array in kept:
            array[start : start + len(batch)] = images
        with np.errstate(over="ignore"):
            for array, maps in zip(arrays, backbone(images), strict=True):
                array[start : start + len(batch)] = maps
                if not np.isfinite(array[start : start + len(batch)]).all():
                    raise AdshiftError(
                        f"features of {batch[0].name}... overflow {settings.dtype}", "set features.dtype: float32"
                    )

    map_ordered(work, range(0, len(items), settings.batch), what=what, unit="batch")
    for array in [*arrays, *kept]:
        array.flush()
    preprocessing = {"resize": settings.resize, "crop": settings.crop, "mean": settings.mean, "std": settings.std}
    layers = [
        {"name": name, "file": file, "shape": shape}
        for name, file, shape in zip(backbone.names, files, shapes, strict=True)
    ]
    record = {
        **backbone.record,
        "preprocessing": preprocessing,
        "size": size,
        "dtype": settings.dtype,
        "layers": layers,
        **({"images": IMAGES} if settings.images else {}),
    }
    write_json(folder / "features.json", {**record, "names": [item.name for item in items]})
