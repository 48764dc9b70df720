"""Figures for Prometheus."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Measured:
    """Counters of an engine, and what is read from it when somebody asks."""

    def __init__(self, engine: Any) -> None:
        self._registry = CollectorRegistry()
        self._verdicts = Counter("adshift_verdicts", "Images judged", ["model", "verdict"], registry=self._registry)
        self._refused = Counter(
            "adshift_refused", "Images that were none", ["model", "status"], registry=self._registry
        )
        self._busy = Counter("adshift_busy", "Requests answered 429", registry=self._registry)
        self._seconds = Histogram(
            "adshift_seconds", "Decoding and judging an image", ["model"], buckets=SECONDS, registry=self._registry
        )
        self._registry.register(_State(engine))

    def judged(self, model: str, anomalous: bool, seconds: float) -> None:
        """An image was judged."""
        self._verdicts.labels(model, "anomalous" if anomalous else "normal").inc()
        self._seconds.labels(model).observe(seconds)

    def refused(self, model: str, status: int) -> None:
        """An image could not be judged."""
        self._refused.labels(model, str(status)).inc()

    def busy(self) -> None:
        """A request came while the queue or a spool was full."""
        self._busy.inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class _State(Collector):
    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        engine = self._engine
        flight = GaugeMetricFamily("adshift_in_flight", "Images accepted and not yet judged")
        flight.add_metric([], engine.in_flight)
        yield flight
        waiting = GaugeMetricFamily("adshift_waiting", "Verdicts that wait for a sink", labels=["sink"])
        down = GaugeMetricFamily("adshift_sink_down", "1 if a sink takes nothing", labels=["sink"])
        for sender in engine.senders:
            waiting.add_metric([sender.sink.name], engine.journal.waiting(sender.sink.name))
            down.add_metric([sender.sink.name], float(bool(sender.problem)))
        yield waiting
        yield down
        threshold = GaugeMetricFamily(
            "adshift_threshold", "Score from which on an image is anomalous", labels=["model"]
        )
        changed = GaugeMetricFamily(
            "adshift_changed", "1 if the drift verdict is that images changed", labels=["model"]
        )
        for name, served in engine.served.items():
            threshold.add_metric([name], served.current.model.threshold)
            if result := engine.drift(name).result:
                changed.add_metric([name], float(result["verdict"] == "changed"))
        yield threshold
        yield changed
