"""Where something is measured: the date, the hardware, the versions, and the memory a process took at its largest."""

import contextlib
import os
import platform
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = Path(tempfile.gettempdir()) / "journeyman-bench"  # models that were imported, and logs
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


def environment() -> dict[str, Any]:
    """When, on what and with what it was measured."""
    return {"date": time.strftime("%Y-%m-%d"), "hardware": hardware(), "packages": packages()}


def packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def hardware() -> dict[str, Any]:
    import torch

    with contextlib.suppress(OSError):
        names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]  # fmt: skip
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return {"cpu": names[0], "cores": os.cpu_count(), "gpus": gpus}
    return {"cpu": platform.processor(), "cores": os.cpu_count(), "gpus": []}


def peak_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
