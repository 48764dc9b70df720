"""What can be known to be wrong before any work starts."""

from adshift import datasets, params
from adshift.backbones import find_weights, layers
from adshift.errors import AdshiftError


def check() -> None:
    """Check params.yaml whole, the data set's layout, and that the weights are at hand.

    Raises:
        AdshiftError: naming what is wrong and the remedy.
    """
    settings = params.load_all()
    datasets.check(settings.dataset.name, settings.dataset.root, settings.classes)
    kept = len(layers(settings.features))
    for method in settings.methods:
        asked = max(getattr(settings, method).layers)
        if asked > kept:
            raise AdshiftError(
                f"params.yaml: {method}.layers: level {asked}, but features.layers names {kept}", f"at most {kept}"
            )
    if settings.features.crop and settings.features.crop > settings.features.resize:
        raise AdshiftError("params.yaml: features.crop is larger than features.resize", "crop at most what was resized")
    weights = find_weights(settings.features)
    if weights.path is None:
        from adshift.backbones import full_model

        full_model(settings.features)  # fetches from the hub into its cache, or says what to do
