"""TRL's trainers in several processes: the step of a single one, divided.

Every `batch_size` rows of the seeded order make a step. They go through in passes of `micro_batch` rows; of W ranks the
one with number r takes passes r, r + W, ... Losses are weighed so that what DistributedDataParallel averages over ranks
is the mean over the rows (or the tokens) of the whole batch, also where rows, passes and ranks do not divide.
"""

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from stages.training.several import meet, of_all

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader


# -- who takes what -----------------------------------------------------------------------------------------------
@dataclass
class Passes:
    """Batches of row numbers for one rank: `size` rows at most, all ranks the same number of batches in each step.

    Where there is no pass left for a rank, it gets a row that another one has: a stand-in, whose loss counts nothing.
    `sampler`: the order of rows, the same on all ranks. `batch`: rows of a step.
    """

    sampler: Any
    batch: int
    size: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[int]]:
        order = [int(row) for row in self.sampler]
        for at in range(0, len(order), self.batch):
            rows = order[at : at + self.batch]
            passes = [rows[start : start + self.size] for start in range(0, len(rows), self.size)]
            mine = passes[self.rank :: self.ranks]
            yield from mine if self.present(at // self.batch)[-1][self.rank] else [*mine, rows[:1]]

    def __len__(self) -> int:
        return sum(len(self.present(step)) for step in range(self.steps))

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.sampler) // self.batch)

    def present(self, step: int) -> list[list[bool]]:
        """For each pass of a step, counted over all epochs, which ranks have rows of their own in it."""
        rows = min(self.batch, len(self.sampler) - step % self.steps * self.batch)
        passes = -(-rows // self.size)
        return [[at + rank < passes for rank in range(self.ranks)] for at in range(0, passes, self.ranks)]

    @property
    def batch_sampler(self) -> "Passes":
        """Where the trainer looks for what it tells the number of an epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


# -- the trainer --------------------------------------------------------------------------------------------------
def divided(trainer: type, by: str = "rows") -> type:
    """The trainer class of TRL for one rank of several. `by`: rows or tokens, what its loss is the mean over."""
    return type(trainer.__name__, (Divided, trainer), {"by": by})


@dataclass(frozen=True)
class Place:
    """A pass among those of its step.

    `weight`: of the loss. `present`: which ranks have rows of their own in it. `counted`: how often its metrics count,
    which is once for each row where a loss is a mean over rows.
    """

    weight: float
    present: Sequence[bool]
    counted: int

    @property
    def of_mean(self) -> float:
        """What makes the mean of what the present ranks have for their rows the mean over all rows of the pass."""
        return self.weight * sum(self.present) / len(self.present)


class Divided:
    """Takes this rank's passes, and weighs their losses. Metrics are those of a single process, too."""

    by = "rows"
    passes: Passes | None = None
    ahead: Iterator[Place] = iter(())
    place: Place | None = None  # of the pass that is going through

    def get_train_dataloader(self) -> "DataLoader":
        loader = super().get_train_dataloader()  # type: ignore[misc]
        args: Any = self.args  # type: ignore[attr-defined]
        if args.world_size == 1:
            return loader
        from torch.utils.data import DataLoader

        sampler = loader.batch_sampler.batch_sampler.sampler  # below what deals whole batches to ranks
        each = args.per_device_train_batch_size
        batch = each * args.gradient_accumulation_steps * args.world_size
        self.passes = Passes(sampler, batch, each, args.process_index, args.world_size)
        return DataLoader(
            loader.dataset, batch_sampler=self.passes, collate_fn=loader.collate_fn, num_workers=loader.num_workers,
            pin_memory=loader.pin_memory, worker_init_fn=loader.worker_init_fn,
            persistent_workers=loader.persistent_workers, prefetch_factor=loader.prefetch_factor,
        )  # fmt: skip

    def get_batch_samples(self, iterator: Iterator[dict], count: int, device: Any) -> tuple[list[dict], Any]:
        """The passes of one step and, for a mean over tokens, how many those of all ranks train."""
        state: Any = self.state  # type: ignore[attr-defined]
        rank = self.passes.rank if self.passes else 0
        batches = list(islice(iterator, count))
        present = self.passes.present(state.global_step) if self.passes else [[True]] * len(batches)
        if self.by == "tokens":
            self.ahead = iter([Place(float(ranks[rank]), ranks, sum(ranks)) for ranks in present])
            counted = [
                batch if ranks[rank] else _untrained(batch) for batch, ranks in zip(batches, present, strict=True)
            ]
            return batches, self._get_num_items_in_batch(counted, device)  # type: ignore[attr-defined]
        rows = [_rows(batch) if ranks[rank] else 0 for batch, ranks in zip(batches, present, strict=True)]
        every = [sum(of_pass) for of_pass in zip(*of_all(rows), strict=True)]  # rows of each pass on all ranks
        ranks_and_passes = sum(map(len, present))  # the trainer divides by the passes, DDP by the ranks
        self.ahead = iter([
            Place(ranks_and_passes * mine / sum(every), ranks, of_pass)
            for mine, ranks, of_pass in zip(rows, present, every, strict=True)
        ])  # fmt: skip
        return batches, None

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.place = next(self.ahead, None)  # none outside of a step
        if self.place is None:
            return super().compute_loss(*args, **kwargs)  # type: ignore[misc]
        with self._measured(self.place):
            return self.place.weight * super().compute_loss(*args, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _measured(self, place: Place) -> Iterator[None]:
        """Metrics of present ranks alone, and each as often as it counts: what is logged is the mean of a list.

        A last pass may have fewer rows on one rank than on another, which accelerate's own gathering cannot take.
        """
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        metrics: dict[str, list[float]] = self._metrics["train"]  # type: ignore[attr-defined]
        before = {name: len(values) for name, values in metrics.items()}
        if len(place.present) > 1:
            accelerator.gather = accelerator.gather_for_metrics = partial(_gathered, place.present)
        try:
            yield
        finally:
            for name in ("gather", "gather_for_metrics"):
                vars(accelerator).pop(name, None)
        for name, values in metrics.items():
            if len(values) > before.get(name, 0):
                values += values[-1:] * (place.counted - 1)

    def _save_rng_state(self, folder: str) -> None:
        """The file of each rank is there before rank 0 writes what says that a checkpoint is whole."""
        super()._save_rng_state(folder)  # type: ignore[misc]
        meet()


def _gathered(present: Sequence[bool], value: "Tensor") -> "Tensor":
    """What the present ranks have, one after another."""
    import torch

    parts = of_all(torch.atleast_1d(value.detach().cpu()))
    return torch.cat([part for part, real in zip(parts, present, strict=True) if real]).to(value.device)


def _rows(batch: dict[str, Sized]) -> int:
    """Of a batch, or the same multiple of them in every batch."""
    return len(next(iter(batch.values())))


def _untrained(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch that trains no token."""
    return {"labels": batch["labels"].new_full(batch["labels"].shape, -100)}
