"""Several processes of one training stage: what they cannot do, how they find each other, what they tell each other.

`stages.training.divided` divides the steps of TRL's trainers among them.
"""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.schema import Runtime
from stages.models.chain import resolve_device
from stages.training.config import TrainConfig
from stages.training.memory import of_device

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Said = TypeVar("Said")
Item = TypeVar("Item")


# -- what cannot work ---------------------------------------------------------------------------------------------
def check(config: TrainConfig) -> None:
    """ConfigError for what several processes cannot do with the result of one."""
    runtime, sampling = config.runtime, config.train.get("train_sampling_strategy", "random")
    check_division(config.batch_size, runtime)
    if runtime.num_processes == 1:
        return
    check_strategy(runtime)
    kept = sampling in ("random", "sequential")
    if not kept or config.train.get("dataloader_drop_last"):
        raise ConfigError(
            f"train.{'dataloader_drop_last' if kept else 'train_sampling_strategy'}: with runtime.num_processes="
            f"{runtime.num_processes} other rows would make a step than in one process; take it out"
        )
    if runtime.strategy == "fsdp2" and config.peft.method != "lora":
        raise ConfigError(
            f"runtime.strategy=fsdp2 divides weights, which has not been tried with those of peft.method="
            f"{config.peft.method}; use lora or ddp"
        )


def check_division(batch: int, runtime: Runtime) -> None:
    """ConfigError unless a batch divides into passes of the same size on every process."""
    processes, micro = runtime.num_processes, runtime.micro_batch
    if batch % (processes * max(1, micro)):
        said = [f"runtime.num_processes={processes}"] if processes > 1 else []
        said += [f"runtime.micro_batch={micro}"] if micro else []
        raise ConfigError(f"batch_size={batch} is not a multiple of {' times '.join(said)}")


def check_strategy(runtime: Runtime, known: Sequence[str] = ("ddp", "fsdp2", "deepspeed")) -> None:
    """ConfigError for a strategy that the stage does not know, or that this machine cannot have."""
    if runtime.strategy not in known:
        raise ConfigError(f"runtime.strategy={runtime.strategy}: this stage knows {', '.join(known)}")
    if runtime.strategy == "deepspeed" and find_spec("deepspeed") is None:
        raise ConfigError("runtime.strategy=deepspeed needs the package deepspeed, which is not installed; use ddp")
    if runtime.strategy != "ddp" and resolve_device(runtime.device) == "cpu":
        raise ConfigError(
            f"runtime.strategy={runtime.strategy} divides a model over GPUs, and this stage runs on a CPU, where "
            "accelerate does not do it; use ddp"
        )


# -- the ranks ----------------------------------------------------------------------------------------------------
def begin(ctx: Context) -> None:
    """Give this process its threads and its device, and let it find the other ranks. ConfigError for too few GPUs."""
    import torch

    runtime, local = ctx.config.runtime, here(ctx.config.runtime)
    if runtime.threads:
        torch.set_num_threads(max(1, runtime.threads // local))
    if ctx.processes == 1 or torch.distributed.is_initialized():
        return
    on_cpu = resolve_device(runtime.device) == "cpu"
    if not on_cpu and torch.cuda.device_count() < local:
        raise ConfigError(
            f"runtime.num_processes={runtime.num_processes}: {local} on this machine, which has "
            f"{torch.cuda.device_count()} GPUs for them; each needs one of its own"
        )
    from accelerate import PartialState

    PartialState(cpu=on_cpu)
    if not on_cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # what is called `cuda` is this one


def of_first(value: Said) -> Said:
    """What rank 0 says, on every rank."""
    import torch

    if not torch.distributed.is_initialized():
        return value
    said = [value]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def of_all(value: Said) -> list[Said]:
    """What each rank says, in the order of their numbers."""
    import torch

    if not torch.distributed.is_initialized():
        return [value]
    said: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(said, value)
    return said


def add_up(*tensors: "Tensor") -> None:
    """Make each tensor the sum of what the ranks have in its place."""
    import torch

    for tensor in tensors if torch.distributed.is_initialized() else ():
        torch.distributed.all_reduce(tensor)


def place() -> tuple[int, int]:
    """The number of this rank, and how many there are."""
    import torch

    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def dealt(items: Sequence[Item], do: Callable[[Sequence[Item]], Sequence[Said]]) -> list[Said]:
    """What `do` makes of all items, of which each rank does every W-th."""
    rank, ranks = place()
    parts = of_all(list(do(items[rank::ranks])))
    return [parts[i % ranks][i // ranks] for i in range(len(items))]


def meet() -> None:
    """Go on when all ranks have come here."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def whole(model: "Module") -> "dict[str, Tensor] | None":
    """The adapters' weights put together, where the ranks have parts of them (every rank has to ask); else None."""
    found = {name: weight for name, weight in model.state_dict().items() if "lora_" in name}
    if not any(hasattr(weight, "full_tensor") for weight in found.values()):
        return None
    return {name: weight.full_tensor() if hasattr(weight, "full_tensor") else weight for name, weight in found.items()}


def part_ways(ctx: Context) -> None:
    """From here on each rank draws numbers of its own, as for dropout. Rank 0 goes on as a single process would."""
    if ctx.rank:
        import torch

        torch.manual_seed(ctx.config.seed + ctx.rank)


def memory(ctx: Context, device: str) -> int:
    """Bytes of memory that this process may plan with: the processes of a machine share that of its CPUs, and a GPU's
    is shared with vLLM where that writes the answers."""
    from stages.kernels.vllm import SHARE

    all_of_it = of_device(device)
    if getattr(ctx.config, "engine", "own") == "vllm":
        return int(all_of_it * (1 - SHARE))
    return all_of_it // here(ctx.config.runtime) if device == "cpu" else all_of_it


def here(runtime: Runtime) -> int:
    """Processes on each machine."""
    return max(1, runtime.num_processes // runtime.num_machines)
