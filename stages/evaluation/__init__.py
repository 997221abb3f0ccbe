"""Measurements by name. Adding one: a file here with a subclass of `Measurement`, and one line in `MEASUREMENTS`."""

from stages.evaluation.calibration import Calibration
from stages.evaluation.choice import Choice
from stages.evaluation.classification import Classification
from stages.evaluation.consistency import Consistency
from stages.evaluation.constraints.measure import Constraints
from stages.evaluation.generate import Generate
from stages.evaluation.harness.measure import Harness
from stages.evaluation.measurement import Measurement
from stages.evaluation.overlap import Overlap
from stages.evaluation.perplexity import Perplexity
from stages.evaluation.preference import Preference
from stages.evaluation.refusal import Refusal
from stages.evaluation.robustness import Robustness
from stages.evaluation.win_rate import WinRate

MEASUREMENTS: dict[str, Measurement] = {
    "perplexity": Perplexity(),
    "choice": Choice(),
    "generate": Generate(),
    "refusal": Refusal(),
    "preference": Preference(),
    "consistency": Consistency(),
    "robustness": Robustness(),
    "calibration": Calibration(),
    "constraints": Constraints(),
    "classification": Classification(),
    "overlap": Overlap(),
    "harness": Harness(),
    "win_rate": WinRate(),
}
