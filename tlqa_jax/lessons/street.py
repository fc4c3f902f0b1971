"""One street of the tiny world: so few people that a model learns them by heart while a lesson runs.

`write_street` makes the files. Lessons 5, 6, 10, 11 and 12 need the T5 that was pretrained on them, lessons 8, 9, 13 and
15 the BERT: `pretraining` and `masked_lm` are the settings of these two runs. The lesson that comes first makes the run;
the others find it complete, and only read it.
"""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlqa_jax.data.tiny_world import Passage, Person, make_people, new_facts, questions, tell, tell_among_others
from tlqa_jax.lessons.figures import FOLDER, SMOKE
from tlqa_jax.training.pretrain_mlm import PretrainMLMSettings
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings

RELATIONS = ("birthplace", "birth_year", "profession", "employer", "instrument")
RESIDENTS, PASSAGES = 24, 40  # number of people in the street, and of passages about each
STRANGERS, ROUNDS = 1000, 6  # people of other places; number of passages with each name, with other facts each time
OTHERS = 2  # number of other people in such a passage
UNREAD = 240  # passages about residents, and about strangers, that are in no training text
SIZES = dict(d_model=128, d_kv=16, d_ff=512, num_layers=2, num_heads=8)
SMOKE_SIZES = dict(d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
BERT_SIZES = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512)
SMOKE_BERT_SIZES = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)


def write_street(folder: Path | str = FOLDER / "street") -> Path:
    """Writes the street's files, the same ones every time, and returns their folder.

        texts.jsonl, held_out.jsonl     passages about the residents, and about other people; "spans" are the values
        unread_residents.jsonl, unread_strangers.jsonl    the `unread_passages`
        asked.jsonl, unasked.jsonl      closed-book questions about the first half of the residents, and the second
        reading.jsonl, reading_held_out.jsonl    questions with a passage, about strangers, and about other strangers
        model.json                      the sizes of a small T5
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng, residents = random.Random(5), people_of_the_street()
    others = make_people(rng, 40, exclude=residents)
    strangers = make_people(rng, STRANGERS, exclude=[*residents, *others])
    half, few = RESIDENTS // 2, STRANGERS // 8
    passages = [tell(rng, [person], relations=RELATIONS) for person in residents for _ in range(PASSAGES)]
    rng.shuffle(passages)
    write_rows(folder / "texts.jsonl", map(marked, passages))
    write_rows(folder / "held_out.jsonl", (marked(tell(rng, [person], relations=RELATIONS)) for person in others))
    for group, pairs in unread_passages().items():
        write_rows(folder / f"unread_{group}.jsonl", (marked(passage) for _, passage in pairs))
    write_rows(folder / "asked.jsonl", closed_book(rng, residents[:half], forms=4))
    write_rows(folder / "unasked.jsonl", closed_book(rng, residents[half:], forms=1))
    write_rows(folder / "reading.jsonl", reading(rng, strangers[few:], ROUNDS))
    write_rows(folder / "reading_held_out.jsonl", reading(rng, strangers[:few], rounds=1))
    (folder / "model.json").write_text(json.dumps(SMOKE_SIZES if SMOKE else SIZES))
    return folder


def people_of_the_street() -> list[Person]:
    """The residents. In training, questions are asked about the first half of them only."""
    return make_people(random.Random(4), RESIDENTS)


def unread_passages() -> dict[str, list[tuple[Person, Passage]]]:
    """New passages about the "residents", and about "strangers": people, and what is told about them."""
    rng, residents = random.Random(8), people_of_the_street()
    strangers = make_people(rng, UNREAD, exclude=residents)
    groups = {"residents": residents * (UNREAD // RESIDENTS), "strangers": strangers}
    return {
        group: [(person, tell(rng, [person], relations=RELATIONS)) for person in people]
        for group, people in groups.items()
    }


def pretraining(folder: Path, out: Path | str) -> PretrainSpansSettings:
    """The settings with which a T5 learns the street by heart."""
    settings = dict(steps=1220, batch_size=32, save_every=600, evaluate_every=100, warmup=40)
    if SMOKE:
        settings = dict(steps=6, batch_size=8, save_every=4, evaluate_every=3, warmup=2, log_every=2)
    return PretrainSpansSettings(
        out=str(out), texts=str(folder / "texts.jsonl"), held_out=str(folder / "held_out.jsonl"),
        model=str(folder / "model.json"), input_length=48, salient_share=0.8, learning_rate=1e-3, decay="constant",
        relative_bias_rate=100.0, weight_decay=0.0, dropout=0.0, **settings,
    )  # fmt: skip


def masked_lm(folder: Path, out: Path | str) -> PretrainMLMSettings:
    """The settings with which a small BERT learns from the street's passages. Its sizes are in bert.json."""
    # In so narrow a model, initial weights of BERT's size, 0.02, keep all attention weights alike for a long time: 0.05
    sizes = (SMOKE_BERT_SIZES if SMOKE else BERT_SIZES) | dict(max_position_embeddings=64, initializer_range=0.05)
    (folder / "bert.json").write_text(json.dumps(sizes))
    settings = dict(steps=2000, batch_size=32, save_every=1000, evaluate_every=200, warmup=50)
    if SMOKE:
        settings = dict(steps=6, batch_size=8, save_every=4, evaluate_every=3, warmup=2, log_every=2)
    return PretrainMLMSettings(
        out=str(out), texts=str(folder / "texts.jsonl"), held_out=str(folder / "unread_residents.jsonl"),
        model=str(folder / "bert.json"), input_length=48, learning_rate=3e-3, weight_decay=0.0, dropout=0.0, **settings,
    )  # fmt: skip


def marked(passage: Passage) -> dict:
    return {"text": passage.text, "spans": [[mention.start, mention.end] for mention in passage.mentions]}


def closed_book(rng: random.Random, people: Sequence[Person], forms: int) -> Iterable[dict]:
    """Each fact of each person, asked `forms` times."""
    for person in people:
        for q in (q for _ in range(forms) for q in questions(rng, person, relations=RELATIONS)):
            yield {"question": q.text, "answer": q.answer, "relation": q.relation, "title": person.name}


def reading(rng: random.Random, people: Sequence[Person], rounds: int) -> Iterable[dict]:
    """A passage with one fact about a person, and one of the same type about others; a question about the person."""
    for person in (new_facts(rng, person) for person in list(people) * rounds):
        passage = tell_among_others(rng, person, types=1, others=OTHERS, relations=RELATIONS)
        mention = next(mention for mention in passage.mentions if mention.person is person)
        q = questions(rng, person, relations=[mention.relation])[0]
        row = {"question": q.text, "context": passage.text, "answer": q.answer, "answer_start": mention.start}
        yield {**row, "relation": q.relation, "title": person.name}


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
