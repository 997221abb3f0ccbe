"""Known defects, planted in clean sets: rows that the project has written itself, spoilt in one way at a known place.

`PLANTS` holds one way for each finding. A spoilt set says which of its rows should be found; `measure` counts what a
check finds of them (recall) and what else it finds (precision).
"""

import copy
import json
import random
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import phonenumbers
from stdnum import iban, luhn

from stages.data.contract.config import ContractConfig
from stages.data.contract.examine import CHECKS
from stages.data.contract.view import Scope
from stages.data.findings import Located
from stages.data.rows import normalise

RATES = (0.01, 0.05, 0.2)
MAX_LENGTH = 700  # tokens of the toy tokenizer, which has few words
AUTHORED = files("stages.data.legal") / "authored"

Row = dict[str, Any]
Spoil = Callable[[Row, random.Random], Row]


@dataclass(frozen=True)
class Plant:
    """How a defect is planted in `stage`'s clean rows, of `tasks` and with answers of `words` only, if given.

    `spoil` changes a row. With `added` the row stays, and the changed copy is put at the end; `both`: then the
    untouched row is at fault as well. `exact`: the finding follows from the rows, so nothing may be missed.
    """

    code: str
    stage: str
    spoil: Spoil
    tasks: tuple[str, ...] = ()
    words: int = 0
    added: bool = False
    both: bool = False
    exact: bool = False


@dataclass(frozen=True)
class Measured:
    """Of `planted` rows and of `found` ones, `hits` are both."""

    planted: int
    found: int
    hits: int

    @property
    def precision(self) -> float:
        return self.hits / self.found if self.found else float(not self.planted)

    @property
    def recall(self) -> float:
        return self.hits / self.planted if self.planted else 1.0


# -- clean sets ---------------------------------------------------------------------------------------------------
def authored(name: str, form: str) -> list[Row]:
    """The rows of a file that the project has written itself, as `prepare` would make them."""
    lines = (AUTHORED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    raw = [json.loads(line) for line in lines]
    return [{"task": each.get("task", ""), **normalise(each, form)[0]} for each in raw]


def clean(stage: str) -> list[Row]:
    """The clean set of a stage: chats, or pairs."""
    return authored("general_train", "chat") if stage == "sft" else authored("general_pairs", "preference")


def joined(rows: Sequence[Row], turns: int = 5) -> list[Row]:
    """Longer conversations: each is made of several of the rows."""
    plain = [row for row in rows if len(row["messages"]) == 2]
    groups = [plain[at : at + turns] for at in range(0, len(plain) - turns, turns)]
    return [{**group[0], "messages": [turn for row in group for turn in row["messages"]]} for group in groups]


# -- ways to spoil a row ------------------------------------------------------------------------------------------
def answered(row: Row, text: str) -> Row:
    """The row with another last answer."""
    made = copy.deepcopy(row)
    made["messages"][-1]["content"] = text
    return made


def answer(row: Row) -> str:
    return row["messages"][-1]["content"]


def asked(row: Row, text: str) -> Row:
    """The row with another last prompt."""
    made = copy.deepcopy(row)
    made["messages"][-2]["content"] = text
    return made


def unreadable(row: Row, draw: random.Random) -> Row:
    return draw.choice([answered(row, 42), {**row, "messages": "hello"}, {**row, "messages": [{"content": "x"}]}])


def without_text(row: Row, draw: random.Random) -> Row:
    return answered(row, draw.choice(["", "  \n\t", "\u200b"]))


def disordered(row: Row, draw: random.Random) -> Row:
    turns = row["messages"]
    return {**row, "messages": draw.choice([turns[::-1], [turns[0], *turns], [*turns, turns[0]]])}


def of_another_form(row: Row, draw: random.Random) -> Row:
    return {"id": row["id"], "text": answer(row), "task": row["task"]}


DISCLAIMERS = (
    "As an AI language model, I don't have personal experience of this, but {}",
    "As a large language model, I cannot see your situation. {}",
    "I'm just an AI, so take this with care: {}",
    "I am an AI assistant and do not have feelings. {}",
    "{} I hope this helps! Let me know if you have any other questions.",
    "{} Please note that my knowledge cutoff is September 2021.",
    "As of my last update in 2022, this was so. {}",
    "As an artificial intelligence, I have no opinion of my own. {}",
)


def with_boilerplate(row: Row, draw: random.Random) -> Row:
    return answered(row, draw.choice(DISCLAIMERS).format(answer(row)))


DAMAGED = ("the cafÃ© is open", "itâ€™s the same", "na\ufffdve as it is", "it&#39;s the same", "&quot;so it is&quot;",
           "a price of Â£20", "â€œyesâ€\x9d, they said", "fran\\u00e7ais is spoken")  # fmt: skip


def damaged(row: Row, draw: random.Random) -> Row:
    return answered(row, f"{answer(row)} Here {draw.choice(DAMAGED)}, as they say.")


LEAKED = ("{}<|im_end|>", "<|im_start|>assistant\n{}", "[INST] why? [/INST] {}", "{}</s>", "{}<|eot_id|>",
          "{}<|endoftext|>", "### Response:\n{}", "<start_of_turn>model\n{}<end_of_turn>")  # fmt: skip


def with_template(row: Row, draw: random.Random) -> Row:
    return answered(row, draw.choice(LEAKED).format(answer(row)))


def with_more_turns(row: Row, draw: random.Random) -> Row:
    return answered(row, f"{answer(row)}\n\nHuman: and then?\n\nAssistant: That is all.")


def digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices(string.digits, k=count))


def email(draw: random.Random) -> str:
    names = ("anna.keller", "t.okafor", "m_lindqvist", "jo.haas77", "pilar.diaz")
    hosts = ("keller-dach.de", "okafor.co.uk", "mail.lindqvist.se", "haas-partner.com", "gmail.com")
    return f"{draw.choice(names)}{draw.randrange(99)}@{draw.choice(hosts)}"


def phone(draw: random.Random) -> str:
    region = draw.choice(["DE", "SE", "GB", "FR", "ES", "IT", "NL"])
    sample = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    while True:
        made = f"{str(sample.national_number)[:-4]}{digits(draw, 4)}"
        number = phonenumbers.PhoneNumber(country_code=sample.country_code, national_number=int(made))
        if phonenumbers.is_valid_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def bank_account(draw: random.Random) -> str:
    body = digits(draw, 18)
    number = f"DE{iban.calc_check_digits(f'DE00{body}')}{body}"
    return draw.choice([number, iban.format(number)])


def card(draw: random.Random) -> str:
    start = draw.choice(["4539", "5425", "4916", "5219"]) + digits(draw, 11)
    number = start + luhn.calc_check_digit(start)
    return draw.choice([number, " ".join(number[at : at + 4] for at in range(0, 16, 4))])


def social_security(draw: random.Random) -> str:
    return f"{draw.randint(100, 665)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}"


def address(draw: random.Random) -> str:
    return f"{draw.choice([81, 93, 151, 188])}.{draw.randint(32, 250)}.{draw.randint(2, 250)}.{draw.randint(2, 250)}"


PERSONAL = {
    "email": ("write to {}", email), "phone": ("call me at {}", phone), "iban": ("transfer it to {}", bank_account),
    "card": ("my card is {}", card), "ssn": ("my social security number is {}", social_security),
    "ip": ("it logged in from {}", address),
}  # fmt: skip


def with_personal(kind: str) -> Spoil:
    sentence, make = PERSONAL[kind]
    return lambda row, draw: answered(row, f"{answer(row)} And {sentence.format(make(draw))} please.")


def drawn(draw: random.Random, letters: str, count: int) -> str:
    return "".join(draw.choices(letters, k=count))


def with_secret(row: Row, draw: random.Random) -> Row:
    mixed = string.ascii_letters + string.digits
    made = draw.choice([
        f"AKIA{drawn(draw, string.ascii_uppercase + '234567', 16)}", f"ghp_{drawn(draw, mixed, 36)}",
        f"xoxb-{digits(draw, 12)}-{digits(draw, 12)}-{drawn(draw, mixed, 24)}", f"sk-proj-{drawn(draw, mixed, 48)}",
        f"AIza{drawn(draw, mixed + '_-', 35)}", f'password = "{drawn(draw, mixed + "%&+", 14)}"',
        f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(draw, mixed, 64)}\n-----END RSA PRIVATE KEY-----",
        f"postgres://billing:{drawn(draw, mixed, 14)}@db.keller-dach.de:5432/billing",
    ])  # fmt: skip
    return answered(row, f"{answer(row)} Use {made} for it.")


FOREIGN = (
    "Das hängt davon ab, wie lange der Motor schon läuft und ob der Filter im Frühjahr gewechselt wurde.",
    "Le moteur tourne mieux quand il fait froid, mais il faut le laisser chauffer quelques minutes avant de partir.",
    "Pumpen går bäst när vattnet är kallt, och man bör aldrig låta den stå i solen hela eftermiddagen.",
    "La bomba funciona mejor por la mañana, porque entonces el agua todavía está fría y el aire es más seco.",
    "De fiets staat al sinds gisteren in de schuur, omdat het zadel nog niet is gerepareerd door de monteur.",
    "Pompa działa najlepiej rano, kiedy woda jest jeszcze zimna, a powietrze suche i spokojne nad rzeką.",
)


def in_another_language(row: Row, draw: random.Random) -> Row:
    return answered(row, draw.choice(FOREIGN))


def far_too_long(row: Row, draw: random.Random) -> Row:
    return answered(
        row,
        " ".join(
            f"{answer(row)} Point {at} of the list is {drawn(draw, string.ascii_lowercase, 6)}." for at in range(300)
        ),
    )


def repeated(row: Row, draw: random.Random) -> Row:
    return {**answered(row, f" {answer(row).upper()}  "), "id": f"{row['id']}-again"}


def with_a_word_changed(row: Row, draw: random.Random) -> Row:
    words = answer(row).split()
    words[draw.randrange(len(words))] = "otherwise"
    return {**answered(row, " ".join(words)), "id": f"{row['id']}-again"}


def contradicted(row: Row, draw: random.Random) -> Row:
    flipped = {"Yes": "No", "No": "Yes"}
    first = answer(row).split()[0].strip(".,!")
    text = answer(row).replace(first, flipped[first], 1) if first in flipped else f"{draw.randrange(1000, 9999)}"
    return {**answered(row, text), "id": f"{row['id']}-again"}


def with_its_answer(row: Row, draw: random.Random) -> Row:
    return asked(row, f"{row['messages'][-2]['content']}\n\n{answer(row)}")


def in_another_format(row: Row, draw: random.Random) -> Row:
    said = answer(row)
    return answered(row, draw.choice([
        json.dumps({"answer": said}), f"```\n{said}\n```", f"| answer |\n|---|\n| {said} |\n| none |",
    ]))  # fmt: skip


def casual(row: Row, draw: random.Random) -> Row:
    return answered(
        row,
        draw.choice(["lol yeah dude, {} 😂!!!", "omg, {} gonna be gr8 lol!!", "haha nope, {} wanna bet? 😜😜"]).format(
            answer(row).lower()
        ),
    )


def beyond(row: Row, draw: random.Random) -> Row:
    filler = " ".join(f"Note {at} says nothing." for at in range(MAX_LENGTH))
    made = copy.deepcopy(row)
    made["messages"][0]["content"] = f"{filler}\n\n{made['messages'][0]['content']}"
    return made


def running_over(row: Row, draw: random.Random) -> Row:
    return answered(row, f"{answer(row)} " + " ".join(f"Then comes step {at}." for at in range(MAX_LENGTH)))


def pair_too_long(row: Row, draw: random.Random) -> Row:
    return {**row, "chosen": row["chosen"] + " " + " ".join(f"Then comes step {at}." for at in range(MAX_LENGTH))}


def the_same_twice(row: Row, draw: random.Random) -> Row:
    return {**row, "rejected": draw.choice([row["chosen"], f" {row['chosen']}\n"])}


def turned_round(row: Row, draw: random.Random) -> Row:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"], "id": f"{row['id']}-again"}


ALIKE = (  # tasks of many rows whose answers have one format and one tone
    "arithmetic_bare", "arithmetic_word", "change_case", "classify_sentiment", "common_sense_why", "compare_two",
    "convert_units", "count_items", "define_word", "extract_field", "rewrite_polite", "sort_numbers",
    "summarise_sentence", "yes_no_fact",
)  # fmt: skip
CLOSED = ("yes_no_fact", "arithmetic_bare")
LONG = ("common_sense_why", "compare_two", "explain_short", "micro_story", "email_short", "define_word")
PLANTS = (
    Plant("unreadable_row", "sft", unreadable, exact=True),
    Plant("empty_turn", "sft", without_text, exact=True),
    Plant("role_order", "sft", disordered, exact=True),
    Plant("wrong_form", "sft", of_another_form, exact=True),
    Plant("no_trained_token", "sft", beyond, exact=True),
    Plant("rows_cut", "sft", running_over, exact=True),
    Plant("too_long", "dpo", pair_too_long, exact=True),
    Plant("exact_duplicates", "sft", repeated, added=True, exact=True),
    Plant("near_duplicates", "sft", with_a_word_changed, added=True),
    Plant("conflicting_answers", "sft", contradicted, CLOSED, added=True, both=True),
    Plant("answer_in_prompt", "sft", with_its_answer, LONG, words=12),
    Plant("mixed_format", "sft", in_another_format, ALIKE),
    Plant("mixed_register", "sft", casual, tuple(task for task in ALIKE if task != "rewrite_polite")),
    Plant("boilerplate", "sft", with_boilerplate),
    Plant("encoding_damage", "sft", damaged),
    Plant("language_mix", "sft", in_another_language),
    Plant("length_outliers", "sft", far_too_long),
    Plant("secrets", "sft", with_secret),
    Plant("template_tokens", "sft", with_template, exact=True),
    Plant("template_tokens:turns", "sft", with_more_turns),
    *(Plant(f"personal_data:{kind}", "sft", with_personal(kind), exact=True) for kind in PERSONAL),
    Plant("chosen_is_rejected", "dpo", the_same_twice, exact=True),
    Plant("contradicting_preferences", "dpo", turned_round, added=True, both=True, exact=True),
)


# -- planting and measuring ---------------------------------------------------------------------------------------
def rows_of(plant: Plant) -> list[Row]:
    """The clean rows in which the defect is planted."""
    rows = clean(plant.stage)
    if plant.code.startswith("personal_data"):  # some tasks are about a note with somebody's address in it
        rows = [row for row in rows if not re.search(r"@|\d[ \d-]{6,}", json.dumps(row["messages"]))]
    return joined(rows) if plant.code == "near_duplicates" else rows


def planted(plant: Plant, rate: float, seed: int) -> tuple[list[Row], set[int]]:
    """The spoilt set, and the places of the rows that are at fault."""
    draw, rows = random.Random(f"{plant.code} {rate} {seed}"), rows_of(plant)
    chosen = spread(rows, [i for i, row in enumerate(rows) if fits(plant, row)], rate, draw)
    truth: set[int] = set()
    for i in chosen:
        made = plant.spoil(rows[i], draw)
        if not plant.added:
            rows[i] = made
            truth.add(i)
            continue
        truth |= {len(rows), *([i] if plant.both else [])}
        rows.append(made)
    return rows, truth


def spread(rows: Sequence[Row], able: Sequence[int], rate: float, draw: random.Random) -> list[int]:
    """A share of the rows, drawn evenly over their tasks; at least one."""
    mixed = draw.sample(able, len(able))
    ordered = sorted(mixed, key=lambda i: rows[i]["task"])
    count = max(1, round(rate * len(ordered)))
    start, step = draw.random(), len(ordered) / count
    return [ordered[int((number + start) * step)] for number in range(count)]


def fits(plant: Plant, row: Row) -> bool:
    """Whether the defect can be planted in the row."""
    if plant.tasks and row["task"] not in plant.tasks:
        return False
    return not plant.words or len(answer(row).split()) >= plant.words


def found(code: str, stage: str, rows: Sequence[Row], tokenizer: Any = None) -> set[int]:
    """The places of the rows that the check of this name marks."""
    check = next(check for check in CHECKS if check.__name__ == code.partition(":")[0])
    kinds = [code.partition(":")[2]] if ":" in code else list(PERSONAL)
    located = [Located(row, "clean.jsonl", line) for line, row in enumerate(rows, 1)]
    told = check(Scope(located, stage, ContractConfig(personal=kinds), tokenizer, MAX_LENGTH))
    return {mark.index for mark in told.marks} if told else set()


def measure(plant: Plant, rate: float, seed: int, tokenizer: Any = None) -> Measured:
    rows, truth = planted(plant, rate, seed)
    told = found(plant.code, plant.stage, rows, tokenizer)
    return Measured(len(truth), len(told), len(truth & told))


def table(tokenizer: Any, seeds: Sequence[int] = (0, 1, 2)) -> Iterator[dict[str, Any]]:
    """A row of numbers for every plant and rate, its counts summed over the seeds."""
    for plant in PLANTS:
        for rate in RATES:
            each = [measure(plant, rate, seed, tokenizer) for seed in seeds]
            all_of = Measured(*(sum(getattr(m, name) for m in each) for name in ("planted", "found", "hits")))
            yield {"code": plant.code, "rate": rate, "exact": plant.exact, **vars(all_of),
                   "precision": round(all_of.precision, 4), "recall": round(all_of.recall, 4)}  # fmt: skip


# -- findings about a set as a whole ------------------------------------------------------------------------------
def with_longer_chosen(rows: list[Row], rate: float, draw: random.Random) -> list[Row]:
    """`rate` of the pairs are turned so that the longer answer is chosen, of the others half."""
    made = []
    for row in rows:
        long, short = sorted((row["chosen"], row["rejected"]), key=len, reverse=True)
        first = draw.random() < rate or draw.random() < 0.5
        made.append({**row, "chosen": long if first else short, "rejected": short if first else long})
    return made


def labelled(rows: list[Row], good: float, draw: random.Random) -> list[Row]:
    """Answers with labels, `good` of them true."""
    return [
        {"id": row["id"], "task": row["task"], "prompt": row["prompt"], "completion": row["chosen"],
         "label": draw.random() < good}
        for row in rows
    ]  # fmt: skip


SETS = {  # code -> (stage, a sound set, a faulty one)
    "length_bias": ("dpo", lambda rows, draw: with_longer_chosen(rows, 0.0, draw),
                    lambda rows, draw: with_longer_chosen(rows, 0.6, draw)),
    "label_imbalance": ("kto", lambda rows, draw: labelled(rows, 0.6, draw),
                        lambda rows, draw: labelled(rows, 0.97, draw)),
}  # fmt: skip


def verdicts(code: str, seeds: Sequence[int]) -> tuple[int, int]:
    """Of the sound and of the faulty sets, one of each for a seed, how many are told of."""
    stage, *makers = SETS[code]
    told = [0, 0]
    for seed in seeds:
        for which, make in enumerate(makers):
            draw = random.Random(f"{code} {seed} {which}")
            told[which] += bool(found(code, stage, make(draw.sample(clean("dpo"), 120), draw)))
    return told[0], told[1]
