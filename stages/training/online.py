"""TRL's trainers that write the answers they learn from (GRPO, RLOO), on the chain, with the rewards of `ppo`.

Answers come from `stages.kernels.rollout`, rewards from `stages.rewards`. The loss is TRL's. One base serves policy,
reference (the newest adapter off) and reward models.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.schema import NOT_IDENTITY
from stages.data import artifact
from stages.models.adapters import peft_config
from stages.models.chat import prompt_ids
from stages.rewards import combined
from stages.rl import guards
from stages.rl.config import NO_JUDGES, check_roles
from stages.rl.guards import Guards
from stages.training import alarms, arguments, probes, run
from stages.training.config import TrainConfig, check_data

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import GRPOTrainer, RLOOTrainer

    from stages.models.roles import Roles

SHOWN = 2  # sampled answers of a batch that the report may show
NEWEST_VLLM = 0, 31  # beside which TRL 1.16 can be imported
STATE = "reward.json"  # of a checkpoint: what the reward has learned
# The guards' advice is written for PPO; what these trainers have in place of its settings.
ADVICE = {
    "train.kl_coef": "train.beta",
    "set train.kl_target": "lower train.learning_rate",
    "raise train.missing_eos_penalty": "add a term that only an answer with an end earns (`finished: true`)",
    "or max_new_tokens": "or train.max_completion_length",
    "raise train.entropy_coef or train.beta": "raise train.beta",
}


@dataclass
class OnlineConfig(TrainConfig):
    """`batch_size` answers make an optimizer step, `train.num_generations` of them to each prompt.

    `inputs` has `policy` and, for each reward model, the role that a term of `reward` names. `max_length` holds a
    prompt and its answer of up to `train.max_completion_length` tokens.
    """

    reward: Dict[str, Any] = field(default_factory=dict)  # terms and weights, see docs/rewards.md
    guards: Guards = field(default_factory=Guards, metadata=NOT_IDENTITY)


def needs(config: OnlineConfig) -> dict[str, str]:
    """Input role -> what it must be."""
    return {"policy": "model", **{role: "reward" for role in config.inputs if role not in NO_JUDGES}}


def preview(config: OnlineConfig, sets: Mapping[str, Artifact]) -> dict[str, Any]:
    """Nothing to tell; DataError for a prompt that a rule cannot score answers to, before anything is trained."""
    combined.check_rows(combined.read(config.reward), artifact.stream(sets["train"]))
    return {}


# -- what cannot work ---------------------------------------------------------------------------------------------
def check(config: OnlineConfig, library: type) -> None:
    """ConfigError for what cannot work with the arguments class `library` of TRL."""
    check_data(config, "prompts to answer")
    _check_library(config)
    check_roles(config.inputs)
    _check_groups(config, library)
    arguments.check(library, config)
    _check_numbers(config, library)
    if config.runtime.num_processes > 1:
        raise ConfigError(
            f"runtime.num_processes={config.runtime.num_processes}: {config.kind} runs in one process, because TRL's "
            "trainer makes other batches of its prompts in several; take it out, or use the kind ppo"
        )
    combined.check(config.reward, config.inputs)
    read = set(combined.read(config.reward).models.values())
    if unread := [role for role in config.inputs if role not in NO_JUDGES and role not in read]:
        raise ConfigError(f"inputs.{unread[0]}: no term of `reward` reads this reward model")
    if config.peft.dropout:
        raise ConfigError("peft.dropout: probabilities of one token are compared before and after a step; set it to 0")
    config.guards.check()
    peft_config(config.peft)


def _check_library(config: OnlineConfig) -> None:
    """ConfigError where the trainers cannot be loaded: they ask a vLLM that is installed for what newer ones lack."""
    try:
        found = version("vllm")
    except PackageNotFoundError:
        return
    if tuple(map(int, found.split(".")[:2])) > NEWEST_VLLM:
        raise ConfigError(
            f"kind {config.kind}: TRL cannot load its trainer beside vLLM {found}; run the stage in an environment "
            "without the extra vllm, or use the kind ppo"
        )


def _check_groups(config: OnlineConfig, library: type) -> None:
    answers, longest = of(config, library, "num_generations"), of(config, library, "max_completion_length")
    if not isinstance(answers, int) or answers < 2 or config.batch_size % answers:
        raise ConfigError(
            f"train.num_generations={answers}: answers to one prompt are compared with each other, so give 2 or more, "
            f"and a divisor of batch_size={config.batch_size}"
        )
    if not isinstance(longest, int) or not 1 <= longest < config.max_length:
        raise ConfigError(
            f"train.max_completion_length={longest} must be 1 or more and leave room for a prompt in max_length="
            f"{config.max_length}"
        )


def _check_numbers(config: OnlineConfig, library: type) -> None:
    """ConfigError for a number that TRL would take, or that it would find only at its first batch."""
    from stages.kernels.rollout import Sampling

    Sampling(
        of(config, library, "max_completion_length"), of(config, library, "temperature"),
        of(config, library, "top_k") or 0, of(config, library, "top_p"),
    ).check()  # fmt: skip
    if not of(config, library, "temperature") > 0:
        raise ConfigError("train.temperature: answers that are compared must differ; give a positive number")
    if of(config, library, "num_iterations") < 1:
        raise ConfigError(f"train.num_iterations={config.train['num_iterations']}: a batch is used once or more often")
    if of(config, library, "beta") < 0:
        raise ConfigError(f"train.beta={config.train['beta']}: 0 or more, or the policy would be paid for its KL")
    for name in ("epsilon", "epsilon_high"):
        value = of(config, library, name)
        if value is not None and not value > 0:
            raise ConfigError(f"train.{name}={value}: give a positive number; no ratio could move otherwise")


def of(config: OnlineConfig, library: type, name: str) -> Any:
    """A value of `train`, or the library's default."""
    return config.train.get(name, getattr(library, name))


# -- setting up ---------------------------------------------------------------------------------------------------
@dataclass
class Prompts:
    """N rows and their prompts as token ids, in the order in which they are answered."""

    rows: list[dict[str, Any]]
    ids: list[list[int]]

    def dataset(self) -> "Dataset":
        """TRL's column, and by which number a row is found again."""
        from datasets import Dataset

        return Dataset.from_dict(
            {"prompt": [row["prompt"] for row in self.rows], "number": list(range(len(self.rows)))}
        )


def read_prompts(ctx: Context, tokenizer: Any, library: type) -> Prompts:
    """Prompts in seeded order; those that leave no room for an answer are counted, not cut."""
    rows = run.prompts(ctx)
    random.Random(ctx.config.seed).shuffle(rows)
    room = ctx.config.max_length - of(ctx.config, library, "max_completion_length")
    tokenized = [(row, prompt_ids(tokenizer, row["prompt"])) for row in rows]
    kept = [(row, ids) for row, ids in tokenized if len(ids) <= room]
    once = ctx.config.batch_size // of(ctx.config, library, "num_generations")
    used = kept[: len(kept) // once * once]
    because = {
        "longer than max_length less train.max_completion_length": len(rows) - len(kept),
        f"do not fill a step of {once} prompts": len(kept) - len(used),
    }
    ctx.record("data", {
        "rows_kept": len(used), "rows_rejected": len(rows) - len(used), "rejected_because": because,
        "rows_available": len(rows), "tokens": sum(len(ids) for _, ids in used), "trained_tokens": 0,
    })  # fmt: skip
    if not used:
        raise DataError(
            f"data.train: {len(kept)} of {len(rows)} prompts have at most {room} tokens, and a step takes {once}; "
            "raise max_length, lower batch_size or give more prompts"
        )
    return Prompts([row for row, _ in used], [ids for _, ids in used])


# -- training -----------------------------------------------------------------------------------------------------
def train(ctx: Context, trainer: type, library: type) -> dict[str, float]:
    """Run the stage with TRL's `trainer` and its arguments class `library`; returns the metrics."""
    from stages.rl.judges import open_shared, read_reward

    ctx.record("timing", {})
    roles = open_shared(ctx, {"reward": combined.read(ctx.config.reward)})
    policy = roles.policy
    with roles.playing("reference"):
        before = probes.next_token_logits(policy.model, policy.tokenizer)
    prompts = read_prompts(ctx, policy.tokenizer, library)
    reward = read_reward(ctx, roles, ctx.config.reward, prompts.rows)
    made = make(ctx, roles, prompts, reward, trainer, library)
    probes.require(ctx, [
        probes.starts_at_input(made.model, policy.tokenizer, before),
        probes.reference_is_input(made.model, policy.tokenizer, before),
    ])  # fmt: skip
    metrics = run.train(ctx, policy, made, 0)
    del metrics["tokens_per_second"]  # of rows that are there before, and here are none
    (ctx.out / "samples.jsonl").write_bytes((ctx.ckpt / "samples.jsonl").read_bytes())
    return {**metrics, **_outcome(ctx, made.state.log_history)}


def make(
    ctx: Context, roles: "Roles", prompts: Prompts, reward: combined.Reward, trainer: type, library: type
) -> "GRPOTrainer | RLOOTrainer":
    """TRL's trainer with answers by `rollout`, rewards by `reward`, and the reference of `roles`."""
    policy, config = roles.policy, ctx.config
    longest = max(map(len, prompts.ids)) + of(config, library, "max_completion_length")
    memory = run.fit_memory(ctx, policy, longest)
    answers = len(prompts.ids) * of(config, library, "num_generations") * of(config, library, "num_iterations")
    args = arguments.build(library, config, rows=answers, ckpt=ctx.ckpt, device=policy.device, fit=memory)
    args.shuffle_dataset = False  # TRL's sampler draws another order when resumed
    # A batch that is used several times is not in a checkpoint: one is written where the next batch begins.
    args.save_steps = -(-int(args.save_steps) // args.num_iterations) * args.num_iterations
    policy.model.answer_temperature = args.temperature
    once = args.generation_batch_size // args.num_generations
    ctx.log(f"{len(prompts.ids)} prompts, {args.num_generations} answers to each, {once} prompts a step")
    made = _writing(trainer)(
        model=roles.model, reward_funcs=_scored(ctx, roles, prompts, reward), args=args,
        train_dataset=prompts.dataset(), processing_class=policy.tokenizer,
    )  # fmt: skip
    made.roles, made.reward = roles, reward
    _one_reference(roles, made.model)
    run.take_step(ctx, policy)
    return made


def _one_reference(roles: "Roles", model: Any) -> None:
    """TRL gives a PeftModel a reference of its own, a copy of the new adapter alone: without the adapters below it."""
    if "ref" in model.peft_config:  # grpo without a KL has none
        model.delete_adapter("ref")
    model.disable_adapter = lambda: roles.playing("reference")
    roles.switch("policy")


def _scored(ctx: Context, roles: "Roles", prompts: Prompts, reward: combined.Reward) -> Callable[..., list[float]]:
    """TRL's reward function: the weighted sum of all terms; each is logged by itself."""
    from stages.kernels.rollout import end_tokens
    from stages.rl.judges import as_judged

    ends, eos = end_tokens(roles.policy), roles.policy.tokenizer.eos_token_id

    def total(
        completions: Sequence[Any], completion_ids: Sequence[list[int]], number: Sequence[int],
        log_metric: Callable[[str, float], None], trainer_state: Any, **_: Any,
    ) -> list[float]:  # fmt: skip
        texts = [completion[0]["content"] for completion in completions]
        rows, ids = [prompts.rows[i] for i in number], [prompts.ids[i] for i in number]
        ended = [answer[-1] in ends for answer in completion_ids]
        parts = reward(rows, ids, as_judged(completion_ids, ended, eos), texts, ended)
        for name, value in parts.means().items():
            if name != "reward":
                log_metric(name, value)
        repeated = [guards.repetition(answer) for answer in completion_ids]
        log_metric("repetition", sum(repeated) / len(repeated))
        _show(ctx.ckpt / "samples.jsonl", trainer_state.global_step, rows, texts, parts.total.tolist())
        return parts.total.tolist()

    return total


def _show(file: Path, step: int, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], rewards: list[float]) -> None:
    """Add a few answers of the batch that begins at `step`; those that a resumed run writes again are replaced."""
    before = file.read_text().splitlines() if file.is_file() else []
    kept = [line for line in before if _of_update(line) < step]
    new = [
        json.dumps(
            {"update": step, "prompt": rows[i]["prompt"][-1]["content"], "answer": texts[i], "reward": rewards[i]}
        )
        for i in range(min(SHOWN, len(rows)))
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in [*kept, *new]))
    part.replace(file)  # whole or as before


def _of_update(line: str) -> int:
    return int(json.loads(line)["update"])


def _writing(trainer: type) -> type:
    """TRL's trainer with prompts as every other stage renders them, and answers by `rollout`."""

    class Trainer(trainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """The manifest describes the artifact; a card for each checkpoint would only cost time."""

        def _tokenize_prompts(self, prompts: Any) -> tuple[list[list[int]], None, dict]:
            return [prompt_ids(self.processing_class, prompt) for prompt in prompts], None, {}

        def _generate_single_turn(self, ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
            answers = write(self, ids)
            return (answers, None) if _tells_log_probs(trainer) else answers

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / STATE).write_text(json.dumps(self.reward.state()))  # first: the trainer's state ends a checkpoint
            super()._save_checkpoint(model, trial)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            super()._load_optimizer_and_scheduler(checkpoint)
            if checkpoint is not None:
                self.reward.load(json.loads((Path(checkpoint) / STATE).read_text()))

    return Trainer


def _tells_log_probs(trainer: type) -> bool:
    """GRPO's generation returns log-probabilities beside the answers, for other engines than this one."""
    return trainer.__name__ == "GRPOTrainer"


def write(trainer: Any, ids: list[list[int]]) -> list[list[int]]:
    """An answer to each prompt, with the token that ended it, drawn under the seed and the number of the step."""
    from stages.kernels.rollout import Sampling, rollout
    from stages.rl.ppo import seed_of

    args, model = trainer.args, trainer.roles.policy.model
    sampling = Sampling(
        args.max_completion_length, args.temperature, args.top_k or 0, args.top_p,
        seed=seed_of(args.seed, trainer.state.global_step),
    )  # fmt: skip
    was_training = model.training
    model.eval()
    answers = rollout(trainer.roles.policy, ids, sampling)
    model.train(was_training)
    return [answer.ids if answer.end is None else [*answer.ids, answer.end] for answer in answers]


# -- what came of it ----------------------------------------------------------------------------------------------
def history(logged: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """TRL's log in the words of `guards`: one entry for each time that was logged. KL is that of a whole answer."""
    return [
        {
            "reward": entry["reward"], "reward_spread": entry["reward_std"], "entropy": entry["entropy"],
            "kl": entry.get("kl", 0.0) * entry["completions/mean_length"], "repetition": entry["repetition"],
            "response_length": entry["completions/mean_length"], "eos_share": 1 - entry["completions/clipped_ratio"],
        }
        for entry in logged if "reward" in entry and "loss" in entry
    ]  # fmt: skip


def _outcome(ctx: Context, logged: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Alarms, and the means of the last quarter."""
    found = history(logged)
    for alarm in guards.alarms(found, ctx.config.guards):
        alarms.sound(ctx, alarm.name, advised(alarm.detail))
    tail = found[-max(1, len(found) // 4) :]
    names = ("reward", "kl", "entropy", "response_length", "eos_share")
    return {
        "first_reward": found[0]["reward"], **{name: sum(e[name] for e in tail) / len(tail) for name in names},
    }  # fmt: skip


def advised(detail: str) -> str:
    """The advice in settings that these trainers have."""
    for before, after in ADVICE.items():
        detail = detail.replace(before, after)
    return detail
