"""Nearest neighbors among a coreset of training patches: the shared part of PatchCore's variants (Roth et al., 2022).

Notation: N images, H x W positions of the first layer used, D channels of all layers used, B rows of the bank,
K neighbors.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from adshift.data.shapes import compact
from adshift.detectors.base import Detector
from adshift.detectors.components.foreground import foreground
from adshift.detectors.components.patches import locally_aware
from adshift.detectors.components.settings import Layers, Neighbours, Smoothing
from adshift.detectors.components.whole_maps import without_padding
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime.parallel import map_ordered, share
from adshift.runtime.settings import Count, Fraction, Number, Section
from adshift.search.neighbors import Neighbors
from adshift.search.rows import Metric

Reweight = Literal["softmax", "original", "none"]
ImageScore = Literal["max", "top_mean"]

TOGETHER = 24  # patches per exact search: one pass over the bank serves all of them


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd: a neighbourhood has a centre")
    return value


class Bank(Section):
    """Parameters of the memory bank's rows.

    Attributes:
        layers: levels of the features; the first one gives the grid.
        pool, stride: side and step in positions of the neighbourhood that is averaged into a patch.
        projection: dimensions of the random projection in which the coreset is selected, None for no projection.
        coreset: share of the training patches that is kept.
        chunk_patches: patches in memory while the coreset is selected, at least those of an image; None for all.
        metric: of the search.
        foreground: threshold of the mask that leaves out the background's patches (`foreground`), None for no mask.
    """

    layers: Layers
    pool: Annotated[Count, Field(le=31), AfterValidator(_odd)]
    stride: Annotated[Count, Field(le=32)]
    projection: Annotated[Count, Field(le=4096)] | None
    coreset: Fraction
    chunk_patches: Annotated[Count, Field(le=1_000_000_000)] | None
    metric: Metric
    foreground: Annotated[Number, Field(gt=0, le=10_000)] | None = None  # models of earlier versions have none


class Scoring(Section):
    """Parameters of scoring, except those of the search.

    Attributes:
        neighbours: K, for the reweighting.
        reweight: `softmax`, of every patch score; `original`, of the image score alone, as in the paper; `none`.
        image_score: the maximum of the patch scores, or the mean of the largest ones.
        top_percent: percentage of the patch scores that count as the largest ones.
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged map.
    """

    neighbours: Neighbours
    reweight: Reweight
    image_score: ImageScore
    top_percent: Annotated[Number, Field(gt=0, le=100)]
    smoothing: Smoothing


class MemoryBank(Detector):
    """Nearest neighbours among a coreset of training patches. Subclasses define how the bank is stored and searched.

    Distances are true distances, as in the papers' equations, not squared ones.
    """

    settings: Any  # a `Bank`, with further parameters of the detector

    @classmethod
    def hardened(cls, settings: Any, copies: int) -> Any:
        """The coreset's share of all patches that keeps as many rows as without copies."""
        return settings.model_copy(update={"coreset": settings.coreset / (1 + copies)}) if copies else settings

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Select the bank among the patches of normal images (section 3.2, algorithm 1).

        Only the projected patches, or a chunk of them, are in memory together; the bank's patches are computed again.

        Raises:
            AdshiftError: there is no image, the coreset ratio selects nothing, or a layer is missing.
        """
        from adshift.search.coreset import (  # compiled code: not loaded for scoring or params.yaml
            greedy_in_chunks,
            projection,
            size_of,
        )

        if not len(features):
            raise AdshiftError("PatchCore got no training image", "check the split")
        _, height, width, channels = self.patches(features[:1]).shape
        if self.settings.foreground is None:
            counts = [rows * columns for rows, columns in features.shown((height, width))]
        else:
            images = [features[index : index + 1] for index in range(len(features))]
            counts = map_ordered(lambda image: len(self.rows_of(image)), images, what="foreground")
        first = np.concatenate([[0], np.cumsum(counts)])  # index of the first patch of each image
        self.spec, self.total = dict(features.spec), int(first[-1])
        count = size_of(self.settings.coreset, self.total)
        start = int(generator.integers(self.total))
        self.matrix = projection(channels, self.settings.projection, generator) if self.settings.projection else None
        selected = greedy_in_chunks(self._projected(features, first, channels), self.total, count, start)
        self.picks, self.radii, self.seconds = selected.indices, selected.radii, selected.seconds

        self.bank = np.empty((count, channels), dtype=np.float32)
        owner = np.searchsorted(first, self.picks, side="right") - 1
        position = self.picks - first[owner]

        def keep(image: int) -> None:
            rows = np.flatnonzero(owner == image)
            self.bank[rows] = self.rows_of(features[image : image + 1])[position[rows]]

        map_ordered(keep, np.unique(owner).tolist(), what="memory bank")
        self._link()

    def _projected(self, features: Features, first: np.ndarray, channels: int) -> Iterator[np.ndarray]:
        """The projected patches in chunks of whole images: (M, projection or D) float32. Chunks reuse the same memory.

        `first`: (N + 1,) index of each image's first patch, and the total.
        """
        largest = int(np.diff(first).max())
        chunk = self.settings.chunk_patches
        most = max(chunk // largest, 1) if chunk else len(features)
        points = np.empty((min(most * largest, self.total), self.settings.projection or channels), dtype=np.float32)
        for start in range(0, len(features), most):
            part, offsets = features[start : start + most], first[start : start + most + 1] - first[start]

            def fill(image: int, part: Features = part, offsets: np.ndarray = offsets) -> None:
                patches = self.rows_of(part[image : image + 1])
                points[offsets[image] : offsets[image + 1]] = patches if self.matrix is None else patches @ self.matrix

            map_ordered(fill, range(len(part)), what="patches")
            yield points[: offsets[-1]]

    @abstractmethod
    def _link(self) -> None:
        """Build what is stored and searched from `bank`."""

    @abstractmethod
    def _ready(self) -> None:
        """Build the index before threads share it."""

    @abstractmethod
    def _search(self, patches: np.ndarray, k: int, scoring: Any, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Distances to and indices of the K nearest rows, or fewer, nearest first: (Q, K)."""

    @property
    def _exactly(self) -> Callable[..., tuple[np.ndarray, np.ndarray]] | None:
        """Exact search, used to refine approximate results; None if `_search` is exact."""
        return None

    @abstractmethod
    def _rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows of the bank that the search uses: (len(indices), D) float32."""

    def patches(self, features: Features) -> np.ndarray:
        """Locally aware patch features (section 3.1): (N, H, W, D) float32."""
        return locally_aware(features, self.settings.layers, self.settings.pool, self.settings.stride)

    def rows_of(self, image: Features) -> np.ndarray:
        """Patches of one image (M, D) float32, without padding and background; M = H W if there is neither."""
        return self._shown(image)[0]

    def _shown(self, image: Features) -> tuple[np.ndarray, np.ndarray]:
        """As `rows_of`, and (H, W) bool: where on the grid these patches are."""
        patches = self.patches(image)[0]
        ((rows, columns),) = image.shown(patches.shape[:2])
        mask, shown = np.zeros(patches.shape[:2], bool), patches[:rows, :columns]
        if self.settings.foreground is None:
            mask[:rows, :columns] = True
            return shown.reshape(-1, shown.shape[-1]), mask
        mask[:rows, :columns] = foreground(shown, self.settings.foreground)
        return patches[mask], mask

    def _predict(self, features: Features, scoring: Scoring) -> Predictions:
        """Patch scores as maps, and image scores from them."""
        images = [features[image : image + 1] for image in range(len(features))]
        self._ready()
        results = map_ordered(
            partial(self._predict_one, scoring, share(len(images))), images, what="scoring with PatchCore"
        )
        scores = np.array([score for score, _ in results], dtype=np.float32)
        maps = np.stack([patch_scores for _, patch_scores in results])
        maps = without_padding(features, maps)
        return Predictions(features.names, scores, maps, compact(self.spec["size"]), scoring.smoothing)

    def _predict_one(self, scoring: Scoring, threads: int, image: Features) -> tuple[float, np.ndarray]:
        """Image score and (H, W) float32 patch scores of one image. Padding and background are 0 and do not count."""
        flat, mask = self._shown(image)
        wanted = scoring.neighbours if scoring.reweight == "softmax" else 1
        distances, rows = self._search(flat, wanted, scoring, threads)
        positions = math.prod(image.shown(mask.shape)[0])
        largest = max(1, round(positions * scoring.top_percent / 100)) if scoring.image_score == "top_mean" else 1
        if self._exactly:
            self._correct_leading_scores(flat, distances, rows, largest, scoring, threads)
        scores = patch_scores(distances, scoring)
        leading = np.sort(scores)[-largest:]
        image_score = float(leading.mean()) * (len(leading) / largest)  # a background's zeros are among the largest
        if scoring.reweight == "original":
            image_score *= self._paper_weight(flat[scores.argmax()], rows[scores.argmax(), :1], scoring)
        patch_map = np.zeros(mask.shape, scores.dtype)
        patch_map[mask] = scores
        return image_score, patch_map

    def _correct_leading_scores(
        self, patches: np.ndarray, distances: np.ndarray, rows: np.ndarray, largest: int, scoring: Scoring, threads: int
    ) -> None:
        """Search again, exactly, every patch whose score could change the image score. Arrays are changed in place.

        Approximate search never returns a distance below that of the nearest row, so that distance, times the largest
        weight that neighbors could give it, is an upper bound of the patch's score. The search ends when the `largest`
        upper bounds belong to patches that were searched exactly. Maps keep the errors of the approximate search.
        """
        assert self._exactly
        ceilings = patch_scores(np.repeat(distances[:, :1], distances.shape[1], axis=1), scoring)
        settled = np.zeros(len(ceilings), dtype=bool)
        while True:
            highest = np.argsort(-ceilings, kind="stable")[: max(largest, TOGETHER)]
            if settled[highest[:largest]].all():
                return
            doubtful = highest[~settled[highest]]
            distances[doubtful], rows[doubtful] = self._exactly(patches[doubtful], rows[doubtful], threads)
            ceilings[doubtful], settled[doubtful] = patch_scores(distances[doubtful], scoring), True

    def _paper_weight(self, patch: np.ndarray, nearest: np.ndarray, scoring: Scoring) -> float:
        """Weight of an image's score, from its farthest patch and that patch's nearest row of the bank (equation 7)."""
        row = self._rows(nearest)
        _, around = self._search(row, scoring.neighbours, scoring)
        if around.shape[1] == 1:
            return 1.0  # as for `softmax_weight`
        if self._exactly:
            _, around = self._exactly(row, around)
        distances = Neighbors(self._rows(around[0]), self.settings.metric).search(patch[None], scoring.neighbours)[0][0]
        return float(1 - 1 / np.exp(distances.astype(np.float64) - distances[0]).sum())


def channels_of(spec: Mapping[str, Any], layers: tuple[int, ...]) -> int:
    """D: total number of channels of the layers used."""
    return sum(spec["layers"][level - 1]["shape"][-1] for level in layers)


def patch_scores(distances: np.ndarray, scoring: Scoring) -> np.ndarray:
    """Scores (Q,) of patches from the distances of their neighbours (Q, K), nearest first."""
    return distances[:, 0] * (softmax_weight(distances) if scoring.reweight == "softmax" else 1)


def softmax_weight(distances: np.ndarray) -> np.ndarray:
    """1 - softmax(-d)[nearest] of neighbours' distances (Q, K), nearest first: (Q,), 1 if there is only one neighbour.

    It is computed as rest / (1 + rest) with rest = sum over the others of exp(d1 - dk): no exponential over- or
    underflows unless the weight itself does.
    """
    if distances.shape[1] == 1:
        return np.ones(len(distances), distances.dtype)
    rest = np.exp(distances[:, :1] - distances[:, 1:]).sum(axis=1)
    return rest / (1 + rest)
