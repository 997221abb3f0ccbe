"""TRL's RewardTrainer on pairs that are tokenized and judged already: its step and its metrics, with our loss."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.rewards.loss import preference_loss
from stages.training.divided import divided

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase
    from trl import RewardConfig, RewardTrainer

JUDGED = ("target", "margin", "weight")  # columns of numbers, one for each pair
COLUMNS = ("chosen_ids", "rejected_ids", *JUDGED)


def reward_trainer(
    model: "PeftModel", args: "RewardConfig", dataset: "Dataset", tokenizer: "PreTrainedTokenizerBase"
) -> "RewardTrainer":
    """The trainer of one member; `dataset` has COLUMNS, sequences hold prompt and answer with its EOS."""
    import torch
    from trl import RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference

    config = model.get_base_model().config.get_text_config()
    pad = config.pad_token_id  # the trainer takes the tokenizer's, which may be EOS: then nobody would judge EOS

    class Collator(DataCollatorForPreference):
        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            columns = {name: torch.tensor([row[name] for row in examples]) for name in JUDGED}
            return {**super().torch_call(examples), **columns}

    class Trainer(RewardTrainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """The manifest describes the artifact; a card for each checkpoint would only cost time."""

        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = list(COLUMNS)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            target, margin, weight = (inputs.pop(name) for name in JUDGED)
            _, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
            loss = preference_loss(chosen - rejected, target, margin, weight)
            if self.args.center_rewards_coefficient is not None:
                loss = loss + self.args.center_rewards_coefficient * ((chosen + rejected) ** 2).mean()
            return (loss, outputs) if return_outputs else loss

    made = divided(Trainer)(
        model=model, args=args, train_dataset=dataset, processing_class=tokenizer, data_collator=Collator(pad)
    )
    config.pad_token_id = pad
    return made


def as_dataset(sequences: Sequence[tuple[list[int], list[int]]], judged: Sequence[tuple[float, float, float]]) -> Any:
    """COLUMNS from the two sequences of each pair and its target, margin and weight."""
    from datasets import Dataset

    ids = {name: [pair[side] for pair in sequences] for side, name in enumerate(COLUMNS[:2])}
    return Dataset.from_dict({**ids, **{name: [row[i] for row in judged] for i, name in enumerate(JUDGED)}})
