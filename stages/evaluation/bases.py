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


def base_of(name: str, base_params: dict[str, Any]) -> tuple[Measurement, Any]:
    """The base of that name with its checked params; ConfigError on an unknown one."""
    base = BASES[name]
    return base, read_params(base.params, dict(base_params), "base_params")


def check_row(row: Row, name: str, base_params: dict[str, Any]) -> None:
    """Raise DataError for an item that the base cannot measure."""
    base, of_base = base_of(name, base_params)
    if missing := [key for key in base.fields if key not in row]:
        raise DataError(f"item {row['id']} has no {', '.join(missing)}, which base={name} needs")
    base.check(row, of_base)
