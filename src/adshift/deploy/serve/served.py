"""A model that is served: it can be exchanged, or get another threshold, between two images.

Notation: W images in the window of the drift verdict, D channels of all layers.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adshift.deploy import loading, recalibration
from adshift.deploy.drift import look
from adshift.deploy.inference import Model
from adshift.deploy.serve.journal import Journal
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError

GROWTH = 4  # a window that cannot tell grows to so many times its size at most


@dataclass(frozen=True)
class Current:
    """What judges an image.

    Attributes:
        model: with its threshold.
        identity: hash of the model.
        origin: of the threshold: `model`, `request`, or NAME of a recalibration.
        reference: reads the images that drift is compared with.
    """

    model: Model
    identity: str
    origin: str
    reference: Callable[[], Reference]


class Served:
    """A model by name.

    Attributes:
        name: in requests.
        source: its directory or file.
        current: replaced as a whole when model or threshold change.
        problem: why the last change was refused; empty if it was not.
    """

    def __init__(self, name: str, source: Path) -> None:
        """Load the model; errors as for `adshift.load`."""
        self.name, self.source, self.problem = name, source, ""
        self._lock = threading.Lock()
        self.current = self._loaded()

    def reload(self) -> None:
        """Take up the model that lies at `source` now; if that fails, the one before goes on.

        Raises:
            AdshiftError: the new one is damaged.
        """
        self._change(self._loaded)

    def set_threshold(self, value: float | None = None, name: str | None = None) -> None:
        """Judge by another threshold from the next image on: a number, a recalibration's NAME, or the model's own.

        Raises:
            AdshiftError: there is no such recalibration, or it is damaged.
        """

        def changed() -> Current:
            now = self.current
            if value is not None:
                return Current(now.model.with_threshold(value), now.identity, "request", now.reference)
            if name is None:
                model = now.model.with_threshold(None)
                return Current(model, now.identity, "model", lambda: model.reference)
            path = recalibration.threshold_path(self.source, name)
            if not re.fullmatch(recalibration.NAME, name) or not path.is_file():
                raise AdshiftError(f"no recalibration {name} of {self.name}", "adshift recalibrate MODEL --normal DIR")
            reference = recalibration.reference_path(self.source, name)
            return Current(now.model.with_threshold(path), now.identity, name, lambda: Reference.load(reference))

        self._change(changed)

    def _change(self, make: Callable[[], Current]) -> None:
        with self._lock:  # one change at a time; images go on meanwhile
            try:
                self.current = make()
                self.problem = ""
            except AdshiftError as error:
                self.problem = error.what
                raise

    def _loaded(self) -> Current:
        model = loading.load(self.source)
        return Current(model, model.identity, "model", lambda: model.reference)


class Drift:
    """The drift verdict of the running window of a model: one look a window, each corrected for those before it.

    Attributes:
        result: of the last look, for JSON; None before the first.
    """

    def __init__(self, served: Served, journal: Journal, size: int) -> None:
        self.result: dict[str, Any] | None = None
        self._served, self._journal, self._size = served, journal, size
        self._lock = threading.Lock()
        self._scores: list[float] = []
        self._features: list[np.ndarray] = []
        self._judge: Current | None = None
        self._wanted = size

    @property
    def waiting(self) -> tuple[int, int]:
        """Images in the window, and how many the next look takes."""
        return len(self._scores), self._wanted

    def add(self, current: Current, score: float, features: np.ndarray) -> bool:
        """Add an image's score and features (D,); whether a look is due. Another model or threshold begins anew."""
        if not self._size:
            return False
        with self._lock:
            if current is not self._judge:
                self._judge, self._scores, self._features, self._wanted = current, [], [], self._size
            self._scores.append(score)
            self._features.append(features)
            return len(self._scores) == self._wanted

    def look(self) -> None:
        """Look at the window, and empty it."""
        with self._lock:
            current, scores, features = self._judge, np.array(self._scores, np.float32), np.array(self._features)
        assert current is not None
        series = f"looks {self._served.name} {current.identity} {current.origin}"
        number = self._journal.fact(series, 0) + 1
        try:
            outcome = look(current.reference(), scores, features, number)
        except AdshiftError as error:
            self.result = {"verdict": None, "reasons": [error.what], "look": number, "images": len(scores)}
            self._keep_on(current, grow=len(scores) < GROWTH * self._size)
            return
        self._journal.keep(series, number)
        changed = min(outcome.scores_p, outcome.features_p) <= outcome.level
        self.result = {
            **outcome.to_dict(),
            "verdict": "changed" if changed else "fine",
            "reasons": list(outcome.reasons),
        }
        self._keep_on(current, grow=False)

    def _keep_on(self, current: Current, grow: bool) -> None:
        with self._lock:
            if current is not self._judge:
                return
            if grow:
                self._wanted = len(self._scores) + self._size
            else:
                self._scores, self._features, self._wanted = [], [], self._size
