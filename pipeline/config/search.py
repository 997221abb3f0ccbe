"""Where configuration is looked for, what is there, and the budget when nobody names one."""

import ctypes
import importlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf
from yaml import MarkedYAMLError

from pipeline.errors import ConfigError


def config_folders(given: Sequence[str]) -> list[Path]:
    """Folders beside the package's own conf: those of --config-dir, then ./conf."""
    for folder in given:
        if not Path(folder).is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder")
    found = [Path(folder).absolute() for folder in given]
    own = Path("conf").absolute()
    return [*found, own] if own.is_dir() and not (own / "config.yaml").exists() else found


def package_folder() -> Path:
    return Path(importlib.import_module("conf").__path__[0])


def files(group: str, folders: Sequence[Path], name: str = "*") -> list[Path]:
    """YAML files of a config group."""
    return [file for folder in (package_folder(), *folders) for file in sorted((folder / group).glob(f"{name}.yaml"))]


def options(group: str, folders: Sequence[Path]) -> list[str]:
    return sorted({file.stem for file in files(group, folders)})


def named(group: str, words: Sequence[str]) -> str | None:
    """The value of the last override `group=...`; None without one."""
    values = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] == group]
    return values[-1] if values else None


def choose_budget(words: list[str], folders: Sequence[Path]) -> tuple[list[str], list[str]]:
    """The words with a budget, and a sentence on it if nobody named it. `budget=none` is the experiment as written.

    A budget NAME that an experiment has for itself (`conf/budget/EXPERIMENT_NAME.yaml`) stands before the general one.
    """
    given, experiment = named("budget", words), named("experiment", words)
    rest = [word for word in words if word.lstrip("+").partition("=")[0] != "budget"]
    if given in ("none", "null"):
        return rest, []
    if given is not None:
        own = _own_budget(given, experiment, folders)
        return (words if own == given else [*rest, f"budget={own}"]), []
    name, why = _pinned(experiment, folders) if experiment else None, "this experiment's own"
    if name is None:
        name, why = _of_machine(experiment, folders)
        why += "; budget=NAME chooses another"
    name = _own_budget(name, experiment, folders)
    if name not in options("budget", folders):
        return words, []
    return [*words, f"budget={name}"], [f"budget={name} ({why})"]


def _of_machine(experiment: str | None, folders: Sequence[Path]) -> tuple[str, str]:
    """The budget for this machine, and why: a CPU without bfloat16 may have smaller sizes, since it is far slower."""
    if has_cuda():
        return "gpu", "a CUDA device is present"
    slow = "cpu_float32"
    if not has_bfloat16() and _own_budget(slow, experiment, folders) in options("budget", folders):
        return slow, "no CUDA device here, and a CPU without instructions for bfloat16"
    return "cpu", "no CUDA device here"


def _own_budget(name: str, experiment: str | None, folders: Sequence[Path]) -> str:
    """The budget `name` that the experiment, or the nearest one it builds on, has for itself; else the general one."""
    if experiment is None:
        return name
    if (own := f"{experiment}_{name}") in options("budget", folders):
        return own
    found = (_own_budget(name, base, folders) for base in _bases(experiment, folders))
    return next((own for own in found if own != name), name)


def _pinned(experiment: str, folders: Sequence[Path]) -> str | None:
    """The budget that an experiment's file pins, or the file of an experiment that it builds on."""
    for file in files("experiment", folders, experiment):
        with suppress(MarkedYAMLError):  # composing will say where
            if pinned := OmegaConf.select(OmegaConf.load(file), "budget"):
                return str(pinned)
    found = (_pinned(base, folders) for base in _bases(experiment, folders))
    return next((budget for budget in found if budget), None)


def _bases(experiment: str, folders: Sequence[Path]) -> list[str]:
    """The experiments whose files the experiment's file builds on, the last one first."""
    for file in files("experiment", folders, experiment):
        with suppress(MarkedYAMLError):
            entries = OmegaConf.select(OmegaConf.load(file), "defaults") or []
            return [
                entry for entry in reversed(entries) if isinstance(entry, str) and entry not in ("_self_", experiment)
            ]
    return []


def fast_dtype() -> tuple[str, str]:
    """What `model.dtype: auto` becomes on this machine, and why."""
    if has_cuda():
        return "bfloat16", "a CUDA device is present"
    if has_bfloat16():
        return "bfloat16", "this CPU multiplies bfloat16 itself; float32 rounds less and takes about twice as long"
    return "float32", "this CPU has no instructions for bfloat16"


def has_bfloat16() -> bool:
    """Whether the CPU has the AVX-512 instructions for bfloat16; without them it is slower than float32."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False


def has_cuda() -> bool:
    """Whether there is a CUDA device that may be used, found without importing torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    if any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return True
    try:
        cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False
