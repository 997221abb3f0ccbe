"""Imported once by the server from which stage processes are forked, so that none of them waits for its libraries.

It also quiets them: their progress bars and notices about each other would bury the lines of the stages.
"""

import atexit
import ctypes
import functools
import gc
import importlib
import importlib.metadata
import logging
import os
import warnings
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt

LIBRARIES = {
    "torch": (),
    "transformers": ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "Trainer", "LlamaForCausalLM"),
    "datasets": ("Dataset",),
    "peft": ("LoraConfig", "PeftModel"),
    "trl": ("DPOConfig", "DPOTrainer", "SFTConfig", "SFTTrainer"),
}

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
warnings.filterwarnings("ignore", category=FutureWarning)
# It misses a kernel from a hub, for a path that is not taken here (`stages/models/linear4bit.py`).
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def keep_freed_memory() -> None:
    """Let malloc keep what tensors give back: returning it means new pages, zeroed one by one, in every step."""
    with suppress(OSError, AttributeError):  # another C library has other rules
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


keep_freed_memory()
# Each library lists all installed packages once; and what is imported stays, so looking for garbage in it is in vain.
importlib.metadata.packages_distributions = functools.cache(importlib.metadata.packages_distributions)
gc.disable()
for library, names in LIBRARIES.items():
    with suppress(ImportError):
        module = importlib.import_module(library)
        for name in names:  # these packages import a part when it is first asked for
            with suppress(ImportError, AttributeError):
                getattr(module, name)

with suppress(ImportError, AttributeError):
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

gc.freeze()
atexit.register(gc.unfreeze)  # or what is frozen outlives the libraries, and one of them (triton) complains
gc.enable()
