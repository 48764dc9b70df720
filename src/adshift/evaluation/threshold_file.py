"""The records of threshold files in a model directory, checked whenever one is written or read.

`threshold.json` and `threshold-shift.json` come with a model, `threshold-NAME.json` from a recalibration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from adshift.errors import AdshiftError, in_line
from adshift.evaluation.conformal import Rate
from adshift.runtime.checksums import MODEL_REMEDY
from adshift.runtime.files import read_json
from adshift.runtime.settings import Number, Probability, Section

LARGEST = 1e30  # largest score, far below the largest float32
RATIOS = 1e-9, 1e9  # bounds of `map_ratio`; PatchCore's ratios lie between 0.2 and 1
MOST = 10**9  # largest number of images

ScoreValue = Annotated[Number, Field(ge=-LARGEST, le=LARGEST)]
Ratio = Annotated[Number, Field(ge=RATIOS[0], le=RATIOS[1])]
Images = Annotated[int, Field(ge=0, le=MOST)]
Text = Annotated[str, Field(max_length=1000)]


class Effect(Section):
    """Counts and rates of a threshold on the images of a recalibration.

    Attributes:
        threshold: score from which on an image is anomalous.
        fp, tn, tp, fn: counts of images.
        fpr: share of the normal images that are false positives.
        recall: share of the anomalous images that are true positives; None if there are none.
    """

    threshold: ScoreValue
    fp: Images
    tn: Images
    tp: Images
    fn: Images
    fpr: Probability
    recall: Probability | None


class Record(Section):
    """A threshold and its origin. A file written by hand needs only the threshold.

    Attributes:
        threshold: score from which on an image is anomalous.
        rule: that chose it: one of `adshift.evaluation.calibration`, or `conformal`.
        reason: why this rule was chosen, if it was not asked for by name.
        val, on: domain and part of the images that set it; `test` under the official protocol.
        normal, anomalous: number of images that set it.
        expected_fpr: of future normal images, under `conformal`.
        map_ratio: factor from the threshold of image scores to that of map values.
        classes: of a unified model, the threshold of each class.
    """

    threshold: ScoreValue
    rule: Literal["f1_grid", "f1_exact", "target_fpr", "pasted", "conformal"] | None = None
    reason: Text | None = None
    val: Literal["clean", "shift"] | None = None
    on: Literal["val", "test"] | None = None
    normal: Images | None = None
    anomalous: Images | None = None
    expected_fpr: Rate | None = None
    map_ratio: Ratio | None = None
    classes: dict[str, "Record"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The values that were given, as plain values for JSON."""
        return self.model_dump(mode="json", exclude_unset=True)

    def of_class(self, name: str, path: Path) -> "Record":
        """The threshold of a class.

        Raises:
            AdshiftError: there is none.
        """
        if self.classes is None:
            message = f"{path}: has no thresholds a class"
            raise AdshiftError(message, "leave the class out: only unified models have them")
        if name not in self.classes:
            raise AdshiftError(f"{path}: no threshold of {name}", f"choose from {', '.join(self.classes)}")
        return self.classes[name]


class Recalibration(Record):
    """A new threshold and its evidence.

    Attributes:
        target_fpr: the rate that was asked for; None under an F1 rule.
        expected_fpr: of future normal images, see `evaluation.conformal`.
        before, after: effects of the old and the new threshold on these images. `before` estimates the effect of the
            old one today, with its interval in `before_fpr`; `after` is no estimate, since these images set it.
        before_fpr: the old threshold's false-positive rate today, with its Clopper-Pearson interval.
        confidence: of every interval.
        normal_images, anomalous_images: names of the files.
        pasted: number of the anomalous images that are normal ones with a pasted defect.
        name: of the recalibration.
        reference: file with the normal images' scores and features.
    """

    target_fpr: Probability | None
    expected_fpr: Rate  # required here
    before_fpr: Rate
    before: Effect
    after: Effect
    confidence: Probability
    normal_images: tuple[Text, ...] = ()
    anomalous_images: tuple[Text, ...] = ()
    pasted: Images = 0
    name: Text = ""
    reference: Text = ""


def given(value: Any) -> Record:
    """A threshold given as a number.

    Raises:
        AdshiftError: it is no number, or out of range.
    """
    try:
        return Record(threshold=value)
    except ValidationError:
        raise AdshiftError(f"threshold {value}", f"give a number from {-LARGEST:g} to {LARGEST:g}") from None


def read(path: Path) -> Record:
    """Read a threshold file.

    Raises:
        AdshiftError: it is missing or damaged, or a value is of another type or out of range.
    """
    if not path.is_file():
        raise AdshiftError(
            f"{path}: not there", "name a model directory (docs/models.md), or REPO#METHOD/CLASS/DOMAIN@REV"
        )
    values = read_json(path, MODEL_REMEDY)
    try:
        if not isinstance(values, Mapping):
            raise ValueError(f"holds {type(values).__name__}, not an object")
        kind = Recalibration if "before" in values else Record
        return kind.of(values)
    except (OverflowError, RecursionError, ValueError) as error:
        raise AdshiftError(f"{path}: holds no threshold ({in_line(error)})", MODEL_REMEDY) from None
