"""Exact nearest neighbors on a card: matrix products with blocks of the bank, and a running list of the nearest rows.

|q - x|^2 = |q|^2 + |x|^2 - 2 q.x loses digits where q and x are near, so the list has `SPARE` rows more than asked for,
and at its end their distances are computed from the differences.

Notation: B rows of the bank, Q queries, D dimensions, K neighbors.
"""

from typing import Any

import numpy as np

from adshift.runtime import device

SPARE = 8
PRODUCTS = 2**26  # in memory at once, 256 MiB
SHARE = 0.5  # of the card's free memory, at most, that the bank may take; a larger bank is sent block by block


class Products:
    """The bank, centered.

    Args:
        bank: (B, D) float32.
    """

    def __init__(self, bank: np.ndarray) -> None:
        import torch

        self.mean = bank.mean(axis=0)
        self.bank = torch.from_numpy(bank - self.mean)
        if self.bank.nbytes < SHARE * device.free_memory():
            self.bank = device.to_device(self.bank)
        self._batches = device.Batches("nearest neighbors")

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances (Q, K) float32 and indices (Q, K) int64 of the nearest rows, ties to the lowest index.

        Args:
            queries: (Q, D) float32.
            k: K, at most B.

        Raises:
            AdshiftError: one query is too much for the card's memory.
        """
        parts = self._batches.run(lambda part: self._search(queries[part], k), len(queries))
        if not parts:
            return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        squared, indices = (np.concatenate(both) for both in zip(*parts, strict=True))
        return squared, indices

    def _search(self, queries: np.ndarray, k: int) -> list[np.ndarray]:
        import torch

        def work() -> list[np.ndarray]:
            points = device.sent(torch.from_numpy(queries - self.mean))
            rows = self._candidates(points, min(k + SPARE, len(self.bank)))
            rows = rows.sort(dim=1).values  # the sort below is stable: ties go to the lowest index
            near = self.bank[rows.to(self.bank.device)].to(points.device)
            squared = (near - points[:, None]).square().sum(-1)
            nearest, order = squared.sort(dim=1, stable=True)
            return device.received([nearest[:, :k].contiguous(), rows.gather(1, order)[:, :k].contiguous()])

        return device.run(work)

    def _candidates(self, points: Any, count: int) -> Any:
        """(Q, count) indices of the rows with the smallest products, in no order."""
        import torch

        step = max(count, PRODUCTS // len(points))
        values, rows = points.new_empty((len(points), 0)), points.new_empty((len(points), 0), dtype=torch.int64)
        for start in range(0, len(self.bank), step):
            block = self.bank[start : start + step].to(points.device, non_blocking=True)
            compared = torch.addmm(block.square().sum(1), points, block.T, alpha=-2)
            some, at = compared.topk(min(count, len(block)), dim=1, largest=False, sorted=False)
            values, rows = torch.cat((values, some), 1), torch.cat((rows, at + start), 1)
            if values.shape[1] > count:
                values, order = values.topk(count, dim=1, largest=False, sorted=False)
                rows = rows.gather(1, order)
        return rows
