"""`label`: fresh preferences on what a policy writes now, between two rounds of reinforcement learning.

The policy answers prompts several times; a labeller says which of two answers is better. What it prefers becomes a data
set of preference pairs, which the next round's reward model is trained on beside the pairs that it had.
"""

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from pipeline.context import Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from pipeline.schema import LATER, StageConfig
from stages.data.conversion import Plan, Refused, chunks, converted
from stages.data.outcome import Lines, Outcome, describe, fill
from stages.models.chat import prompt_ids
from stages.rewards import combined
from stages.rl.config import Rollouts
from stages.training import run
from stages.training.config import check_data, refuse_training

if TYPE_CHECKING:
    from stages.kernels.rollout import Answer
    from stages.models.chain import Policy

FORMAT = "preference"
REASONS = {"tie": "neither answer was preferred", "alike": "the policy wrote no two different answers"}
VERDICTS = {"a": ("a", "b"), "b": ("b", "a")}  # who is chosen, who is rejected
# id, prompt (turns), a and b (texts), row (where the prompt came from), answers (side -> Answer, as it was written)
Pair = dict[str, Any]


@dataclass
class LabelConfig(StageConfig):
    """`by: terms` labels by rules in the form of `reward`, `by: file` asks people through a file."""

    by: str = "terms"  # terms | file
    terms: Dict[str, Any] = field(default_factory=dict)  # name -> term, see docs/rewards.md; the higher sum is better
    weights: Dict[str, Any] = field(default_factory=dict)  # of the terms, 1 for one that is not named
    file: str = ""  # JSON Lines of {id, prefers: a | b | tie}; what is asked for is written beside it
    count: int = 64  # prompts, drawn at random under the seed; 0 = all
    max_length: int = 512  # tokens of a prompt and its answer
    rollout: Rollouts = field(default_factory=lambda: Rollouts(samples=2))
    engine: str = field(default="own", metadata=LATER)  # own | vllm: what writes the answers, see docs/ppo.md#vllm


@register("label", config=LabelConfig)
class Label(Stage):
    """Pairs of answers that the policy writes now, compared by rules or by people: a data set of preferences."""

    version = 1
    consumes = {"policy": "model"}
    produces = "data"

    def fingerprints(self, config: LabelConfig) -> dict[str, str]:
        """The labels are part of the data that is made from them, and so is what makes them."""
        if config.by != "file":
            return combined.fingerprints({"terms": config.terms})
        path = Path(config.file).expanduser()
        return {"labels": hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none yet"}

    def validate(self, config: LabelConfig) -> None:
        check_data(config, "prompts to answer")
        _check_labeller(config)
        _check_answers(config)

    def run(self, ctx: Context) -> dict[str, float]:
        """Write what `prepare` writes of preference pairs: data/train.jsonl, rejected.jsonl and quality.json."""
        pairs, alike = _pairs(ctx)
        verdicts = (_by_terms if ctx.config.by == "terms" else _by_file)(ctx, pairs)
        outcome = Outcome(Lines(ctx.out / "data" / "train.jsonl"), Lines(ctx.out / "rejected.jsonl"), FORMAT)
        try:
            _gather(ctx, outcome, pairs, verdicts, alike)
        finally:
            outcome.kept.close()
            outcome.rejected.close()
        ties = Counter(verdicts.values())["tie"]
        if not outcome.kept:
            raise DataError(
                f"no answer was preferred to another ({ties} ties, {len(alike)} prompts without two "
                "different answers), so there is nothing to learn from; raise count or rollout.samples"
            )
        quality = describe(outcome, {"train": len(outcome.kept), "heldout": 0, "left_out": 0})
        (ctx.out / "quality.json").write_text(json.dumps(quality, indent=2, ensure_ascii=False) + "\n")
        ctx.record("data", quality)
        return {"pairs": float(len(outcome.kept)), "ties": float(ties), "alike": float(len(alike))}


# -- what cannot work ---------------------------------------------------------------------------------------------
def _check_labeller(config: LabelConfig) -> None:
    if config.by not in ("terms", "file"):
        raise ConfigError(f"by={config.by}: use terms or file")
    unread = {"terms": {"file": config.file}, "file": {"terms": config.terms, "weights": config.weights}}[config.by]
    for name, value in unread.items():
        if value:
            raise ConfigError(f"{name}: with by={config.by} nothing reads it; take it out")
    if config.by == "terms":
        combined.check_measured(_judge(config), "label")
        if combined.read(_judge(config), "label").models:
            raise ConfigError("terms: a reward model cannot label its own training data; use rules, or by: file")
    if config.by == "file" and not config.file:
        raise ConfigError("file: name the file that will hold the labels")


def _check_answers(config: LabelConfig) -> None:
    from stages.kernels.rollout import Sampling
    from stages.kernels.vllm import check_engine

    check_engine(config.engine, config.runtime)
    if config.rollout.samples < 2 or config.rollout.temperature == 0:
        raise ConfigError(
            f"rollout.samples={config.rollout.samples}, rollout.temperature={config.rollout.temperature}: a preference "
            "needs 2 answers or more that differ"
        )
    if config.rollout.max_new_tokens >= config.max_length:
        raise ConfigError(
            f"rollout.max_new_tokens={config.rollout.max_new_tokens} leaves no room for a prompt in max_length="
            f"{config.max_length}"
        )
    if config.count < 0:
        raise ConfigError(f"count={config.count}: use 0 for all prompts, or a positive number")
    refuse_training(config.runtime, "runtime", "labelling")
    Sampling(config.rollout.max_new_tokens, config.rollout.temperature, config.rollout.top_k, config.rollout.top_p,
             config.rollout.samples).check()  # fmt: skip


def _judge(config: LabelConfig) -> dict[str, Any]:
    return {"terms": config.terms, "weights": config.weights}


# -- what is compared ---------------------------------------------------------------------------------------------
def _pairs(ctx: Context) -> tuple[list[Pair], list[dict]]:
    """The first two different answers to each prompt, and the rows whose prompts have no two."""
    import torch

    from stages.kernels.rollout import Sampling, rollout
    from stages.kernels.vllm import answered_by
    from stages.models.chain import load_policy

    asked, runtime = ctx.config.rollout, ctx.config.runtime
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    policy = load_policy(
        ctx.inputs["policy"], ctx.lineage, device=runtime.device, cache=ctx.cache,
        dequant_cache_gib=runtime.dequant_cache_gib,
    )  # fmt: skip
    answered_by(policy, ctx.config.engine)
    rows, prompts = _fitting(ctx, policy)
    sampling = Sampling(
        asked.max_new_tokens, asked.temperature, asked.top_k, asked.top_p, asked.samples, seed=ctx.config.seed
    )
    written = rollout(policy, prompts, sampling, runtime.micro_batch)
    if policy.engine is not None:
        policy.engine.record(ctx)
    texts = [policy.tokenizer.decode(answer.ids, skip_special_tokens=True).strip() for answer in written]
    answers = list(zip(texts, written, strict=True))
    each = [answers[at : at + asked.samples] for at in range(0, len(answers), asked.samples)]
    found = [_different(row, written) for row, written in zip(rows, each, strict=True)]
    return [pair for pair in found if pair], [row for row, pair in zip(rows, found, strict=True) if not pair]


def _fitting(ctx: Context, policy: "Policy") -> tuple[list[dict], list[list[int]]]:
    """`count` rows, drawn at random from those whose prompt leaves room for an answer, and their prompts as ids.

    DataError for a row of which a rule cannot score answers, before the first is sampled.
    """
    rows = run.prompts(ctx)
    random.Random(ctx.config.seed).shuffle(rows)
    room = ctx.config.max_length - ctx.config.rollout.max_new_tokens
    tokenized = ((row, prompt_ids(policy.tokenizer, row["prompt"])) for row in rows)
    kept = list(islice(((row, ids) for row, ids in tokenized if len(ids) <= room), ctx.config.count or None))
    if not kept:
        raise DataError(f"data.train: none of {len(rows)} prompts has at most {room} tokens; raise max_length")
    if ctx.config.by == "terms":
        combined.check_rows(combined.read(_judge(ctx.config)), [row for row, _ in kept])
    return [row for row, _ in kept], [ids for _, ids in kept]


def _different(row: dict[str, Any], answers: list[tuple[str, "Answer"]]) -> Pair | None:
    """The first two answers that differ in their text; empty ones are no answers."""
    first: dict[str, Answer] = {}
    for text, answer in answers:
        if text:
            first.setdefault(text, answer)
    if len(first) < 2:
        return None
    a, b = list(first)[:2]
    name = hashlib.sha256(json.dumps([row["prompt"], a, b]).encode()).hexdigest()[:12]
    return {"id": name, "prompt": row["prompt"], "a": a, "b": b, "row": row, "answers": {"a": first[a], "b": first[b]}}


# -- what becomes of them -----------------------------------------------------------------------------------------
def _gather(ctx: Context, outcome: Outcome, pairs: list[Pair], verdicts: dict[str, str], alike: list[dict]) -> None:
    """The pairs as rows of preferences; those that nobody prefers either way are rejected."""
    judged = [pair for pair in pairs if verdicts[pair["id"]] in VERDICTS]
    rows = ((line, _row(ctx, pair, verdicts[pair["id"]])) for line, pair in enumerate(judged, 1))
    fill(outcome, converted(chunks(ctx.stage, rows), Plan(FORMAT)))
    tied = [(pair, "tie") for pair in pairs if verdicts[pair["id"]] not in VERDICTS]
    for line, (row, why) in enumerate([*tied, *((row, "alike") for row in alike)], len(judged) + 1):
        shown = {key: row[key] for key in ("prompt", "a", "b") if key in row}
        outcome.reject(ctx.stage, Refused(line, REASONS[why], shown, why), why)


def _row(ctx: Context, pair: Pair, verdict: str) -> dict[str, Any]:
    """A preference row. It stays in the group of the row that its prompt came from."""
    chosen, rejected = VERDICTS[verdict]
    labels = {key: pair["row"][key] for key in ("cluster", "task", "tags") if key in pair["row"]}
    said = {"id": f"{ctx.stage}-{pair['id']}", "prompt": pair["prompt"]}
    return {**said, "chosen": pair[chosen], "rejected": pair[rejected], **labels}


# -- who says which is better -------------------------------------------------------------------------------------
def _by_terms(ctx: Context, pairs: list[Pair]) -> dict[str, str]:
    """The answer with the higher weighted sum of terms."""
    judge, rows = combined.Reward(_judge(ctx.config), {}), [pair["row"] for pair in pairs]
    no_prompts: list[list[int]] = [[] for _ in pairs]  # which only reward models read
    totals = {}
    for side in "ab":
        written = [pair["answers"][side] for pair in pairs]
        ids = [answer.ids if answer.end is None else [*answer.ids, answer.end] for answer in written]
        texts, ended = [pair[side] for pair in pairs], [answer.ended for answer in written]
        totals[side] = judge(rows, no_prompts, ids, texts, ended, learn=False).total.tolist()
    return {
        pair["id"]: "a" if a > b else "b" if b > a else "tie"
        for pair, a, b in zip(pairs, totals["a"], totals["b"], strict=True)
    }


def _by_file(ctx: Context, pairs: list[Pair]) -> dict[str, str]:
    """What people said; DataError, and a file with what is to be labelled, while something is missing."""
    path = Path(ctx.config.file).expanduser()
    known = _read(path) if path.is_file() else {}
    waiting = [pair for pair in pairs if pair["id"] not in known]
    if others := known.keys() - {pair["id"] for pair in pairs}:
        ctx.log(f"{len(others)} labels in {path} are of answers that this policy did not write; they are not read")
    if waiting:
        ask = path.with_name(f"{path.name}.ask.jsonl")
        lines = (json.dumps({key: pair[key] for key in ("id", "prompt", "a", "b")}) for pair in waiting)
        ask.parent.mkdir(parents=True, exist_ok=True)
        ask.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        raise DataError(
            f"{len(waiting)} of {len(pairs)} pairs wait for a label; they are in {ask}. Write a line "
            f'{{"id": ..., "prefers": "a", "b" or "tie"}} for each into {path} and run again'
        )
    return {pair["id"]: known[pair["id"]] for pair in pairs}


def _read(path: Path) -> dict[str, str]:
    """Pair -> who is preferred; DataError names the line that says nothing, or that contradicts another."""
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, prefers = row["id"], row["prefers"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f'{path}, line {number}: expected {{"id": ..., "prefers": "a", "b" or "tie"}}') from None
        if not isinstance(name, str):
            raise DataError(f"{path}, line {number}: id is {name!r}; use the text that stands in the pair")
        if prefers not in (*VERDICTS, "tie"):
            raise DataError(f"{path}, line {number}: prefers is {prefers!r}; use a, b or tie")
        before, where = found.setdefault(name, (prefers, number))
        if before != prefers:
            raise DataError(
                f"{path}, line {number}: {name} prefers {prefers}, and {before} in line {where}; leave one of the two"
            )
    return {name: prefers for name, (prefers, _) in found.items()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold other ends of lines
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
