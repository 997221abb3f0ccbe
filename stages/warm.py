"""Imported once by the server from which stage processes are forked, so that none of them waits for its libraries.

It also quiets them: their progress bars and notices about each other would bury the lines of the stages.
"""

import importlib
import os
import warnings
from contextlib import suppress

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

for library, names in LIBRARIES.items():
    with suppress(ImportError):
        module = importlib.import_module(library)
        for name in names:  # these packages import a part when it is first asked for
            with suppress(ImportError, AttributeError):
                getattr(module, name)

with suppress(ImportError, AttributeError):
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
