"""All metrics, images first: the order of tables."""

from adshift.evaluation.metrics import image, pixel
from adshift.evaluation.metrics.metric import Metric, Place

METRICS = (*image.METRICS, *pixel.METRICS)
BY_NAME = {metric.name: metric for metric in METRICS}


def shown_in(view: Place) -> tuple[Metric, ...]:
    """The metrics whose `places` hold `view`."""
    return tuple(metric for metric in METRICS if view in metric.places)
