"""Log-probabilities of answers under the reference policy: computed once for a pair, kept in the store's cache.

The key says all that decides the number: the base's weights, every adapter of the input policy, how it is computed,
and the tokens of the pair. The seed, the rank and the learning rate of the new adapter are not in it, so all cells of
a sweep share the numbers.
"""

import fcntl
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.models.chain import Policy
from stages.training import several

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOTrainer, KTOTrainer

# What a pair is made of, and the columns of its numbers: log p of the one answer to the prompt, and of the other.
COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
NUMBERS = ("ref_chosen_logps", "ref_rejected_logps")


def cache_file(folder: Path, policy: Policy, step: str, ld_alpha: float | None) -> Path:
    """Where the log-probabilities under `policy`, computed in this way, are kept."""
    said = {
        "base": policy.chain.base["digest"], "adapters": [ref.digest for ref in policy.chain.adapters],
        "methods": [ref.method for ref in policy.chain.adapters], "scales": policy.scales,
        "dtype": str(policy.model.dtype), "quantized": policy.quantized, "device": policy.device, "ld_alpha": ld_alpha,
        "step": step.partition(" ")[0],  # not how many of the new adapter's layers it fuses: they are off here
    }  # fmt: skip
    if getattr(policy.model, "triton_kernels", False):
        said["kernels"] = "triton"  # they round elsewhere
    return folder / "reference" / f"{_digest(said)}.jsonl"


def with_reference(
    trainer: "DPOTrainer | KTOTrainer", dataset: "Dataset", batch_size: int, file: Path,
    columns: Sequence[str] = COLUMNS, numbers: Sequence[str] = NUMBERS,
) -> "Dataset":  # fmt: skip
    """The data set with the input policy's summed log-probability of each answer, from `file` or computed now.

    `columns`: the prompt and the answers; `numbers`: the new columns, one for each answer.
    """
    keys = [_digest([row[name] for name in columns]) for row in dataset]
    wanted = set(keys)
    known = several.of_first({key: value for key, value in _read(file).items() if key in wanted})
    missing = [i for i, key in enumerate(keys) if key not in known]
    found = several.dealt(missing, partial(_compute, trainer, dataset, batch_size))
    known |= {keys[i]: values for i, values in zip(missing, found, strict=True)}
    if several.place()[0] == 0:
        _append(file, {keys[i]: known[keys[i]] for i in missing})
    for name, values in zip(numbers, zip(*(known[key] for key in keys), strict=True), strict=True):
        dataset = dataset.add_column(name, list(values))
    return dataset


def _compute(
    trainer: "DPOTrainer | KTOTrainer", dataset: "Dataset", batch_size: int, indices: Sequence[int]
) -> list[tuple[float, ...]]:
    found: list[tuple[float, ...]] = []
    was_training = trainer.model.training
    trainer.model.eval()
    for at in range(0, len(indices), batch_size):
        batch = trainer.data_collator([dataset[i] for i in indices[at : at + batch_size]])
        batch = {key: value.to(trainer.args.device) for key, value in batch.items()}
        parts = [part.tolist() for part in trainer.compute_ref_log_probs(trainer.model, batch) if part is not None]
        found += zip(*parts, strict=True)
    trainer.model.train(was_training)
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _read(file: Path) -> dict[str, tuple[float, ...]]:
    """What is known; a last line torn by a crash is computed again."""
    known = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            key, *values = json.loads(line)
        except ValueError:
            continue
        known[key] = tuple(values)
    return known


def _append(file: Path, found: dict[str, tuple[float, ...]]) -> None:
    """Whole lines under a lock, so that stages of parallel sweeps may share the file."""
    if not found:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write("\n" + "".join(json.dumps([key, *values]) + "\n" for key, values in found.items()))
