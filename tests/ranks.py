"""Several stages one after another in the same ranks, because to start these costs more than a toy's training.

KILLED_AT: rank 0 is killed when it has written the checkpoint of that name. PRETEND_GPUS: accelerate, which divides no
model over CPUs, takes the processes for those of GPUs.
"""

import os
import signal
import sys
from pathlib import Path

from pipeline.rank import main


def kill_at(name: str) -> None:
    from stages.training import run

    real = run.seal

    def seal(ckpt: Path, checkpoint: Path) -> None:
        real(ckpt, checkpoint)
        if checkpoint.name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    run.seal = seal


def pretend_gpus() -> None:
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    from stages.training import several

    real = several.whole

    def whole(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
        found = real(model)
        assert found is not None, "the weights are not divided"
        return found

    several.whole = whole
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


if __name__ == "__main__":
    if os.environ.get("KILLED_AT"):
        kill_at(os.environ["KILLED_AT"])
    if os.environ.get("PRETEND_GPUS"):
        pretend_gpus()
    sys.exit(max([main(Path(spec), debug=True) for spec in sys.argv[1:]]))
