"""A memory bank in half-byte codes (product quantization, Jegou et al., 2011), searched in two phases.

Notation: B rows of the bank, D dimensions, M parts of W dimensions each, 16 centroids a part, Q queries.

Why 4 bits a part: 16 centroids' distances fit into a register of the processor, so that FAISS's fast scan (Andre et
al., 2015) takes less time than exact search, where codes of 8 bits take several times as long; and 16 centroids are
learned from few rows and take little room beside the codes.

The first phase reads distances from tables rounded to 8 bits. The second one measures to the decompressed rows in
float32: without that rounding the two would be the same distance, and the second phase would change nothing.
"""

from dataclasses import dataclass

import numpy as np

from adshift.errors import AdshiftError
from adshift.runtime.parallel import in_slices, one_thread_below
from adshift.search.rows import Metric, prepared

CENTROIDS = 16
SEED = 1234  # of FAISS's k-means


@dataclass(frozen=True)
class Codes:
    """A quantized bank.

    Attributes:
        codes: (B, M / 2) uint8, two parts a byte, the lower half first.
        codebooks: (M, 16, W) float32, centroids; of a part with fewer than W dimensions the rest is zero.
        dimensions: D.
    """

    codes: np.ndarray
    codebooks: np.ndarray
    dimensions: int

    @property
    def nbytes(self) -> int:
        """Bytes of codes and codebooks together."""
        return self.codes.nbytes + self.codebooks.nbytes

    def check(self, size: int) -> None:
        """Refuse arrays that do not belong together.

        Raises:
            ValueError: they are not a bank of `size` bytes a row.
        """
        parts, width = 2 * size, -(-self.dimensions // (2 * size))
        sound = (
            self.dimensions >= parts
            and (self.codes.ndim, self.codes.dtype, self.codes.shape[1:]) == (2, np.uint8, (size,))
            and len(self.codes) >= 1
            and (self.codebooks.dtype, self.codebooks.shape) == (np.float32, (parts, CENTROIDS, width))
        )
        if not sound:
            raise ValueError("codes and codebooks do not fit together")

    def split(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) float32 as parts: (N, M * W) float32, distances kept."""
        return _dealt(rows, len(self.codebooks))

    def decompress(self, indices: np.ndarray) -> np.ndarray:
        """Rows of the bank as the codes have them: (N, D) float32."""
        rows = self.parts_of(self.codebooks, indices).reshape(len(indices), -1)
        return rows[:, _columns(self.dimensions, len(self.codebooks))]

    def parts_of(self, table: np.ndarray, indices: np.ndarray | slice) -> np.ndarray:
        """What a table (M, 16, ...) holds for the parts of rows: (N, M, ...)."""
        codes = self.codes[indices]
        chosen = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1)
        return table[np.arange(len(table)), chosen]


def _columns(dimensions: int, parts: int) -> np.ndarray:
    """Columns of the parts that the dimensions are dealt out to, as evenly as they go: (D,)."""
    width = -(-dimensions // parts)
    dealt = np.array_split(np.arange(dimensions), parts)
    return np.concatenate([part * width + np.arange(len(group)) for part, group in enumerate(dealt)])


def _dealt(rows: np.ndarray, parts: int) -> np.ndarray:
    dealt = np.zeros((len(rows), parts * -(-rows.shape[1] // parts)), np.float32)
    dealt[:, _columns(rows.shape[1], parts)] = rows
    return dealt


def quantize(bank: np.ndarray, size: int, metric: Metric) -> Codes:
    """Learn codebooks from a bank (B, D) float32 and encode it; on one thread, so that equal banks give equal codes.

    Args:
        bank: finite.
        size: bytes a row.
        metric: of the search; for cosine, rows of length one are quantized.

    Raises:
        AdshiftError: more parts than dimensions, or fewer rows than centroids.
    """
    import faiss

    dimensions, parts = bank.shape[1], 2 * size
    if parts > dimensions:
        raise AdshiftError(
            f"patchcore_pq.bytes: {size} bytes code {parts} parts, but patches have {dimensions} dimensions",
            f"at most {dimensions // 2}",
        )
    if len(bank) < CENTROIDS:
        raise AdshiftError(
            f"patchcore_pq: a bank of {len(bank)} rows is too small, {CENTROIDS} centroids are learned from it",
            "raise patchcore_pq.coreset, or use patchcore",
        )
    rows = prepared(bank, metric)
    with one_thread_below():
        split = _dealt(rows, parts)
        quantizer = faiss.ProductQuantizer(split.shape[1], parts, 4)
        quantizer.cp.seed, quantizer.cp.min_points_per_centroid = SEED, 1  # few rows are no reason to warn
        quantizer.train(split)
        codebooks = faiss.vector_to_array(quantizer.centroids).reshape(parts, CENTROIDS, -1)
        return Codes(quantizer.compute_codes(split), codebooks, dimensions)


class QuantizedNeighbors:
    """The index of a quantized bank, rebuilt from its arrays."""

    def __init__(self, bank: Codes, metric: Metric) -> None:
        import faiss

        self.bank, self.metric = bank, metric
        self.centroids = np.ascontiguousarray(bank.codebooks.transpose(0, 2, 1))
        self.norms = np.ones(len(bank.codes), np.float32)
        if metric == "cosine":  # what is decompressed is not quite of length one
            norms = np.sqrt(bank.parts_of((bank.codebooks**2).sum(axis=2), slice(None)).sum(axis=1))
            self.norms = np.where(norms > 0, norms, 1)
        parts, _, width = bank.codebooks.shape
        plain = faiss.IndexPQ(parts * width, parts, 4)
        faiss.copy_array_to_vector(bank.codebooks.ravel(), plain.pq.centroids)
        faiss.copy_array_to_vector(bank.codes.ravel(), plain.codes)
        plain.ntotal, plain.is_trained = len(bank.codes), True
        self.index = faiss.IndexPQFastScan(plain)  # type: ignore[arg-type]

    def search(
        self, queries: np.ndarray, k: int, *, candidates: int, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The min(k, candidates, B) rows nearest by the distance to the decompressed row, among `candidates` rows.

        Args:
            queries: (Q, D) float32.
            k: rows asked for.
            candidates: rows nearest by the tables, which are decompressed.
            threads: share the queries. They change no byte.

        Returns:
            distances float32 and indices int64, nearest first, ties to the lowest index.
        """
        candidates = min(candidates, len(self.bank.codes))
        shape = len(queries), min(k, candidates)
        squared, indices = np.full(shape, np.inf, np.float32), np.full(shape, -1, np.int64)
        split = np.ascontiguousarray(self.bank.split(prepared(queries, self.metric)))

        def work(part: slice) -> None:
            import faiss

            from adshift.search.exact import refine  # compiled code, which reading params.yaml spares

            faiss.omp_set_num_threads(1)  # holds for the calling thread
            _, nearest = self.index.search(split[part], candidates)
            near = squared[part], indices[part]
            refine(split[part], self.bank.codes, self.centroids, self.norms, nearest, *near)

        with one_thread_below():
            in_slices(work, len(queries), threads)
        return np.sqrt(squared) if self.metric == "euclidean" else squared / 2, indices
