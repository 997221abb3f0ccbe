"""Small models of every architecture that the fast step knows, and TRL's real trainers on them, with either step."""

import tempfile
from functools import lru_cache

import torch

from stages.kernels import step as steps
from stages.training import reference

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256}  # fmt: skip
WINDOW = 6  # shorter than every sequence of the tests
MIXED = ["sliding_attention", "full_attention"]
ARCHITECTURES = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama, head of its own": ("Llama", {"tie_word_embeddings": False, "num_key_value_heads": 4}),
    "qwen2": ("Qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": MIXED}),
    "qwen3": ("Qwen3", {"use_sliding_window": True, "sliding_window": WINDOW, "layer_types": MIXED}),
    "mistral": ("Mistral", {"sliding_window": WINDOW, "num_key_value_heads": 1}),
    "gemma3": ("Gemma3Text", {"sliding_window": WINDOW, "layer_types": MIXED, "query_pre_attn_scalar": 11}),
    "gemma3, capped logits": ("Gemma3Text", {"sliding_window": WINDOW, "final_logit_softcapping": 2.0}),
}


@lru_cache
def tokenizer():
    from stages.models.sources import toy

    return toy()[1]


def net(architecture="llama", dtype=torch.float32, seed=0, large=4, **changes):
    """A frozen model with random weights, the same ones every time; `large`: beside a fresh model's.

    A fresh model's attention and logits are nearly flat, and would hide mistakes in both.
    """
    import transformers

    name, settings = ARCHITECTURES[architecture]
    vocabulary = len(tokenizer())
    config = getattr(transformers, f"{name}Config")(
        **{"vocab_size": vocabulary, "pad_token_id": tokenizer().pad_token_id, **SIZES, **settings, **changes}
    )
    name = {"Gemma3Text": "Gemma3"}.get(name, name)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    for parameter in model.parameters():
        parameter.data.mul_(large if parameter.dim() > 1 else 1)
    return model.to(dtype).requires_grad_(False)


def lora(**changes):
    """An adapter that changes something: A and B are both random."""
    from peft import LoraConfig

    usual = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
    return LoraConfig(**{**usual, "task_type": "CAUSAL_LM", **changes})


def ids(seed, length):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, len(tokenizer()), (length,), generator=generator).tolist()


def row(seed, length, first=1):
    """A row of SFT whose tokens from `first` on are trained."""
    tokens = ids(seed, length)
    return {"input_ids": tokens, "labels": [-100] * first + tokens[first:]}


def pair(seed, prompt, chosen, rejected, alike=0):
    """A preference; the answers start with the same `alike` tokens."""
    start = ids(seed + 300, alike)
    return {
        "prompt_ids": ids(seed, prompt),
        "chosen_ids": start + ids(seed + 100, chosen - alike),
        "rejected_ids": start + ids(seed + 200, rejected - alike),
    }


ROWS = [row(1, 17, 9), row(2, 11, 10), row(3, 24, 4)]  # the second trains one token
PAIRS = [pair(1, 12, 7, 9, alike=3), pair(2, 5, 1, 6), pair(3, 1, 8, 4), pair(4, 9, 5, 5, alike=4)]


def sft_trainer(model, step, rows=ROWS, adapter=None, packed_to=0, kernels="plain", **flags):
    """TRL's trainer on padded rows, or as the stages do it on rows packed into sequences of `packed_to` tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer, pack_dataset

    data = Dataset.from_list(rows)
    data = pack_dataset(data, packed_to, "bfd") if packed_to else data
    args = SFTConfig(**{**USUAL, "per_device_train_batch_size": len(data), **flags})
    args.packing, args.dataset_kwargs = bool(packed_to), {"skip_prepare_dataset": True}
    return _made(SFTTrainer, model, args, data, adapter, step, kernels)


def dpo_trainer(model, step, pairs=PAIRS, adapter=None, cache=None, kernels="plain", **flags):
    """TRL's trainer on pairs of token ids; `cache`: where the fast step keeps reference log-probabilities."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *args):
            return dataset

        def _precompute_ref_logps(self, dataset, name, batch_size):
            if cache is None:
                return super()._precompute_ref_logps(dataset, name, batch_size)
            steps.install(model, step)
            return reference.with_reference(self, dataset, batch_size, cache)

    args = DPOConfig(**{**USUAL, "per_device_train_batch_size": len(pairs), **flags})
    return _made(Trainer, model, args, Dataset.from_list(pairs), adapter, step, kernels)


USUAL = {"output_dir": tempfile.gettempdir(), "report_to": [], "use_cpu": True, "bf16": False, "max_length": 128,
         "disable_tqdm": True, "activation_checkpointing": False}  # fmt: skip


def _made(kind, model, args, data, adapter, step, kernels):
    torch.manual_seed(1)
    trainer = kind(model, args=args, train_dataset=data, processing_class=tokenizer(), peft_config=adapter or lora())
    trainer.said = steps.install(model, step, kernels)
    return trainer


def outcome(trainer):
    """Loss, gradients by name and logged metrics of one batch of all rows."""
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), gradients(trainer.model), {k: values[-1] for k, values in trainer._metrics["train"].items()}


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def relative(found, expected):
    """The largest difference, as a share of the largest entry of `expected`."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def check_equal(fast, trl, bound=1e-5):
    """The acceptance bar: loss and every gradient tensor within `bound`, metrics alike."""
    (loss, found, metrics), (wanted, expected, logged) = fast, trl
    assert relative(loss, wanted) <= bound
    assert found.keys() == expected.keys() and found
    far = {name: gap for name in found if (gap := relative(found[name], expected[name])) > bound}
    assert not far
    assert any(grad.abs().max() > 1e-6 for grad in expected.values()), "nothing to compare"
    assert metrics.keys() == logged.keys()
    for name in metrics:
        assert abs(metrics[name] - logged[name]) <= 1e-4 * max(1.0, abs(logged[name])), name
