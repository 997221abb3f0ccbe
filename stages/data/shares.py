"""From weights, a temperature, floors and caps to the share of a mixture's tokens that each kind of row makes up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Dict, Optional

from pipeline.errors import ConfigError, DataError

ROUNDS = 10_000  # of fitting; ordinary ones need some ten
FITTED = 1e-4  # of all tokens: how far a floor or a cap may be missed by the fitted shares
LATER = {"identity": "non_default"}  # part of an id only where it is set

Cell = tuple[str, frozenset[str]]  # rows of one role that have the same tags among those with a floor or a cap


@dataclass
class Mixture:
    """Several data sets in one stage. Shares are of tokens; `weights` names every role of `data` that is mixed."""

    weights: Dict[str, float] = field(default_factory=dict, metadata=LATER)  # role -> part of the tokens, in any unit
    temperature: Optional[float] = field(default=None, metadata=LATER)  # weights times tokens ** (1 / temperature)
    floors: Dict[str, float] = field(default_factory=dict, metadata=LATER)  # tag -> least share of all tokens
    caps: Dict[str, float] = field(default_factory=dict, metadata=LATER)  # tag -> greatest share of all tokens
    epochs: Dict[str, float] = field(default_factory=dict, metadata=LATER)  # role -> times a row is read; train: 1

    @property
    def asked(self) -> bool:
        """Whether it says anything; a stage without it reads `data.train` alone."""
        return any((self.weights, self.temperature, self.floors, self.caps, self.epochs))

    @property
    def tags(self) -> frozenset[str]:
        """The tags that have a floor or a cap."""
        return frozenset(self.floors) | frozenset(self.caps)


def check(mixture: Mixture, data: Mapping[str, str]) -> None:
    """ConfigError for a mixture that cannot be meant; `data`: role -> data set of the stage."""
    roles = list(mixture.weights) or ["train"]
    if len(set(data.values())) < len(data):
        raise ConfigError("data: two roles name the same data set; name it once, its weight says how much of it")
    for role in data:
        if role not in roles:
            raise ConfigError(f"mixture.weights: gives no weight to data.{role}; add one, or take the role out")
    for name, values in (("weights", mixture.weights), ("epochs", mixture.epochs)):
        for role, value in values.items():
            if role not in data:
                raise ConfigError(f"mixture.{name}.{role}: the stage has no data.{role}; it has {', '.join(data)}")
            if not (isfinite(value) and value > 0):
                raise ConfigError(f"mixture.{name}.{role}={value}: give a positive number")
    if mixture.temperature is not None and not (isfinite(mixture.temperature) and mixture.temperature > 0):
        raise ConfigError(
            f"mixture.temperature={mixture.temperature}: give a positive number, or null for weights alone"
        )
    _check_tags(mixture)


def _check_tags(mixture: Mixture) -> None:
    for name, values in (("floors", mixture.floors), ("caps", mixture.caps)):
        for tag, share in values.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"mixture.{name}.{tag}={share}: give a share of all tokens from 0 to 1")
    for tag in sorted(mixture.floors.keys() & mixture.caps.keys()):
        if mixture.floors[tag] > mixture.caps[tag]:
            raise ConfigError(
                f"mixture.floors.{tag}={mixture.floors[tag]} lies above mixture.caps.{tag}={mixture.caps[tag]}"
            )


def of_roles(mixture: Mixture, tokens: Mapping[str, int]) -> dict[str, float]:
    """Role -> share, the sum 1. `tokens`: role -> tokens of all its rows.

    Sampling with a temperature is that of multilingual models: p_i ~ n_i ** (1 / T) (Arivazhagan et al. 2019,
    arXiv:1907.05019), here times the weight.
    """
    power = 1 / mixture.temperature if mixture.temperature else 0.0
    pull = {role: mixture.weights.get(role, 1.0) * size**power for role, size in tokens.items()}
    return {role: value / sum(pull.values()) for role, value in pull.items()}


def of_cells(mixture: Mixture, tokens: Mapping[Cell, int]) -> dict[Cell, float]:
    """Cell -> share: those of the roles hold, floors and caps hold, and inside both, proportions stay as they were.

    Iterative proportional fitting (Deming and Stephan 1940): shares are scaled to one bound after the other until all
    hold, which changes the proportions least in the sense of relative entropy. DataError for bounds that cannot hold.
    """
    sizes: dict[str, int] = {}
    for (role, _), size in tokens.items():
        sizes[role] = sizes.get(role, 0) + size
    for role, size in sizes.items():
        if not size:
            raise DataError(f"mixture: data.{role} has no row with a token to train on; take it out of the mixture")
    wanted = of_roles(mixture, sizes)
    shares = {cell: wanted[cell[0]] * size / sizes[cell[0]] for cell, size in tokens.items()}
    _refuse_unreachable(mixture, wanted, [cell for cell, size in tokens.items() if size])
    for _ in range(ROUNDS):
        past = [_scale(shares, tag, floor, least=True) for tag, floor in mixture.floors.items()]
        past += [_scale(shares, tag, cap, least=False) for tag, cap in mixture.caps.items()]
        emptied = not all(_restore(shares, role, share) for role, share in wanted.items())
        if max(past, default=0.0) <= FITTED and not emptied:
            return shares
    raise DataError(
        f"mixture: floors {dict(mixture.floors)} and caps {dict(mixture.caps)} cannot hold together with the weights "
        "of the data sets: too many rows have several of these tags; lower a floor or raise a cap"
    )


def _restore(shares: dict[Cell, float], role: str, share: float) -> bool:
    """Scale the cells of a role to its share; False when caps have left nothing to scale."""
    mine = [cell for cell in shares if cell[0] == role]
    found = sum(shares[cell] for cell in mine)
    shares.update({cell: shares[cell] * share / found for cell in mine if found})
    return found > 0


def _scale(shares: dict[Cell, float], tag: str, bound: float, *, least: bool) -> float:
    """Scale the cells of `tag` to `bound` where they are past it; returns by how much they were."""
    mine = [cell for cell in shares if tag in cell[1]]
    found = sum(shares[cell] for cell in mine)
    past = bound - found if least else found - bound
    if past <= 0:
        return 0.0
    shares.update({cell: shares[cell] * bound / found for cell in mine})
    return past


def _refuse_unreachable(mixture: Mixture, wanted: Mapping[str, float], cells: list[Cell]) -> None:
    """DataError for a floor that all rows with the tag cannot reach, and a cap that rows without it cannot keep."""
    for tag, floor in mixture.floors.items():
        having = {role for role, tags in cells if tag in tags}
        most = sum(wanted[role] for role in having)
        if most < floor - FITTED:
            where = f"only {', '.join(sorted(having))} has such rows" if having else "no row has the tag"
            raise DataError(
                f"mixture.floors.{tag}={floor}: rows tagged `{tag}` can make up {most:.1%} of the tokens at most: "
                f"{where}; tag more rows, raise the weight of a data set that has them, or lower the floor"
            )
    for tag, cap in mixture.caps.items():
        only = {role for role, _ in cells} - {role for role, tags in cells if tag not in tags}
        least = sum(wanted[role] for role in only)
        if least > cap + FITTED:
            raise DataError(
                f"mixture.caps.{tag}={cap}: rows tagged `{tag}` make up {least:.1%} of the tokens at least: every "
                f"row of {', '.join(sorted(only))} has the tag; lower the weight of that data set, or raise the cap"
            )


def total(mixture: Mixture, shares: Mapping[Cell, float], tokens: Mapping[Cell, int], at_most: int) -> int:
    """Tokens of the largest mixture of these shares, up to `at_most` (0 = no limit), in which epochs are kept.

    Where nothing is said of `train`, it is read once on average: its rows below a floor may be read more often then.
    """
    limits = [float(at_most)] if at_most else []
    for (role, tags), share in shares.items():
        if role in mixture.epochs and share > 0:
            limits.append(mixture.epochs[role] * tokens[role, tags] / share)
    if "train" not in mixture.epochs:
        mine = [cell for cell in shares if cell[0] == "train"]
        limits.append(sum(tokens[cell] for cell in mine) / sum(shares[cell] for cell in mine))
    return int(min(limits))
