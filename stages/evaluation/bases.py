"""The measurements that others build on: `consistency`, `robustness` and `calibration` ask through one of these."""

from typing import Any

from pipeline.errors import DataError
from stages.evaluation.choice import Choice
from stages.evaluation.generate import Generate
from stages.evaluation.measurement import Measurement, Row, option, read_params

BASES: dict[str, Measurement] = {"generate": Generate(), "choice": Choice()}


def base_option(default: str) -> Any:
    """A dataclass field that names one of them."""
    return option(default, *BASES)


def base_of(params: Any) -> tuple[Measurement, Any]:
    """The base that `params.base` names, with `params.base_params` as its own; ConfigError on an unknown one."""
    base = BASES[params.base]
    return base, read_params(base.params, dict(params.base_params), "base_params")


def check_row(row: Row, params: Any) -> None:
    """Raise DataError for an item that the base cannot measure."""
    base, of_base = base_of(params)
    if missing := [key for key in base.fields if key not in row]:
        raise DataError(f"item {row['id']} has no {', '.join(missing)}, which base={params.base} needs")
    base.check(row, of_base)
