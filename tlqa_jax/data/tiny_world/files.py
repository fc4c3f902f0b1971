"""The groups of people in the tiny world, and the files in data/: how each is made, and where it is."""

import io
import json
import random
import string
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sentencepiece

from tlqa_jax.data.tiny_world.kelbish import Sentence, sentences
from tlqa_jax.data.tiny_world.passages import (
    Passage,
    Person,
    Question,
    make_people,
    new_facts,
    questions,
    retell,
    tell,
    tell_among_others,
)
from tlqa_jax.data.tiny_world.phrases import FIRST_NAMES, LAST_NAMES, RELATIONS, VALUES
from tlqa_jax.data.tiny_world.question_forms import HELD_OUT_FORMS, TRAINING_FORMS
from tlqa_jax.data.tiny_world.reviews import Review, reviews
from tlqa_jax.data.tiny_world.summaries import Summary, summaries
from tlqa_jax.errors import UserError
from tlqa_jax.text.wordpiece import WordPieceTokenizer

VOCABULARY_SIZE = 1000
TASK_WORDS = "question: context: sentence: review: answer: sentiment: positive negative unknown yes no"


@dataclass(frozen=True)
class WorldSizes:
    residents: int = 60
    passages_per_resident: int = 8
    forms_per_fact: int = 3  # closed-book training questions about each fact of an asked resident
    strangers_train: int = 900
    rounds_train: int = 4  # passages with a training stranger's name, each with other facts, so memorising is useless
    strangers_dev: int = 300
    retold_passages: int = 120  # about passers-by, who are in no other file
    other_passages: int = 60  # of pretraining_dev.txt; even
    reviews_train: int = 1500  # of places; of courses there are as many
    reviews_dev: int = 300
    sentences_train: int = 2000
    sentences_dev: int = 300
    summaries_train: int = 1500
    summaries_dev: int = 200


@dataclass(frozen=True)
class World:
    """The groups of people; no full name is in two of them.

    Closed-book training asks about the first half of the residents, `asked`; about the other half, `unasked`, only dev
    asks.
    """

    seed: int = 0
    sizes: WorldSizes = field(default_factory=WorldSizes)

    residents: tuple[Person, ...] = field(init=False)
    strangers_train: tuple[Person, ...] = field(init=False)
    strangers_dev: tuple[Person, ...] = field(init=False)
    passers_by: tuple[Person, ...] = field(init=False)
    others: tuple[Person, ...] = field(init=False)

    def __post_init__(self) -> None:
        taken: list[Person] = []
        for group, size in (
            ("residents", self.sizes.residents),
            ("strangers_dev", self.sizes.strangers_dev),
            ("others", self.sizes.other_passages + self.sizes.other_passages // 4),
            ("strangers_train", self.sizes.strangers_train),
            ("passers_by", self.sizes.retold_passages + self.sizes.retold_passages // 2),
        ):
            people = tuple(make_people(self.rng(group), size, exclude=taken))
            object.__setattr__(self, group, people)
            taken += people

    @property
    def asked(self) -> tuple[Person, ...]:
        return self.residents[: len(self.residents) // 2]

    @property
    def unasked(self) -> tuple[Person, ...]:
        return self.residents[len(self.residents) // 2 :]

    def rng(self, purpose: str) -> random.Random:
        """A separate random generator for each purpose, so that the size of one group does not change the others."""
        return random.Random(f"tiny world {self.seed} {purpose}")


@dataclass(frozen=True)
class ContextQuestions:
    passage: Passage
    asked: tuple[tuple[Person, Question], ...]


def resident_passages(world: World) -> list[tuple[Person, Passage]]:
    """`passages_per_resident` paraphrases of all ten facts for each resident, in the order of the residents."""
    rng = world.rng("resident passages")
    return [(p, tell(rng, [p])) for p in world.residents for _ in range(world.sizes.passages_per_resident)]


def retold_passages(rng: random.Random, people: Sequence[Person], number: int) -> list[Passage]:
    """Passages that state most facts twice, alternately about one person (3 types) and about two (2 types)."""
    people = iter(people)
    passages = []
    for position in range(number):
        one = position % 2 == 0
        passages.append(retell(rng, [next(people)] if one else [next(people), next(people)], types=3 if one else 2))
    return passages


def pretraining_passages(world: World) -> list[Passage]:
    """The residents' passages and passages about passers-by, shuffled, so neighbours are about different people."""
    passages = [passage for _, passage in resident_passages(world)]
    passages += retold_passages(world.rng("retold"), world.passers_by, world.sizes.retold_passages)
    world.rng("pretraining order").shuffle(passages)
    return passages


def pretraining_dev_passages(world: World) -> list[Passage]:
    """Text of the same style about people who are in no other file."""
    rng, half = world.rng("pretraining dev"), world.sizes.other_passages // 2
    passages = [tell(rng, [person]) for person in world.others[:half]]
    return passages + retold_passages(rng, world.others[half:], half)


def context_questions(
    rng: random.Random, people: Sequence[Person], *, rounds: int = 1, types: int = 1, held_out: bool = False,
    relations: Sequence[str] = RELATIONS,
) -> list[ContextQuestions]:
    """A passage about each person in each of the `rounds`, and a question about each fact of theirs in it.

    A passage states one fact of each of `types` types, with two facts of the same type about others. From the second
    round on the same names have newly drawn facts.
    """
    examples = []
    for round_number in range(rounds):
        for person in rng.sample(list(people), len(people)):
            subject = new_facts(rng, person) if round_number else person
            passage = tell_among_others(rng, subject, types=types, relations=relations)
            # a separate generator: the passages and facts are the same with and without held_out
            forms = random.Random(rng.random())
            own = [mention.relation for mention in passage.mentions if mention.person is subject]
            examples.append(
                ContextQuestions(
                    passage, tuple((subject, q) for q in questions(forms, subject, held_out=held_out, relations=own))
                )
            )
    return examples


def closed_book_questions(
    rng: random.Random, world: World, people: Sequence[Person], *, forms_per_fact: int = 1, held_out: bool = False
) -> list[ContextQuestions]:
    """Questions about all facts of residents, each in several forms; the passage is their first one in pretraining."""
    first_passage = {}
    for person, passage in resident_passages(world):
        first_passage.setdefault(person, passage)
    forms_of = HELD_OUT_FORMS if held_out else TRAINING_FORMS
    return [
        ContextQuestions(
            first_passage[person],
            tuple(
                (person, Question(form.format(name=person.name), relation, person[relation]))
                for relation, forms in forms_of.items()
                for form in rng.sample(forms, min(forms_per_fact, len(forms)))
            ),
        )
        for person in people
    ]


def squad_json(name: str, examples: Sequence[ContextQuestions]) -> str:
    """SQuAD v1.1; each question has its `relation` as one more field."""
    articles = []
    for number, example in enumerate(examples):
        starts = {(m.person.name, m.relation): m.start for m in example.passage.mentions}
        qas = [
            {
                "id": f"{name}-{number}-{k}",
                "question": question.text,
                "relation": question.relation,
                "answers": [{"text": question.answer, "answer_start": starts[person.name, question.relation]}],
            }
            for k, (person, question) in enumerate(example.asked)
        ]
        title = ", ".join(dict.fromkeys(person.name for person, _ in example.asked))
        articles.append({"title": title, "paragraphs": [{"context": example.passage.text, "qas": qas}]})
    lines = ",\n".join(json.dumps(article) for article in articles)
    return f'{{"version": "1.1", "data": [\n{lines}\n]}}\n'


def text_lines(passages: Iterable[Passage]) -> str:
    return "\n\n".join(passage.text for passage in passages) + "\n"


def marked_lines(passages: Iterable[Passage]) -> str:
    """One row per passage: its text, and the [start, end] of each value in it, in characters."""
    return json_lines({"text": p.text, "spans": [[m.start, m.end] for m in p.mentions]} for p in passages)


def review_lines(written: Iterable[Review]) -> str:
    return json_lines({"text": review.text, "label": review.label} for review in written)


def sentence_lines(made: Iterable[Sentence]) -> str:
    return json_lines({"en": sentence.english, "kelbish": sentence.kelbish} for sentence in made)


def summary_lines(written: Iterable[Summary]) -> str:
    return json_lines({"article": summary.article, "highlights": summary.highlights} for summary in written)


def json_lines(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def sentencepiece_file(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> bytes:
    """A SentencePiece unigram model: pad 0, end 1, unknown 2, no start; all printable ASCII characters are known."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        required_chars=string.printable.strip(),
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def wordpiece_file(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> bytes:
    """A `vocab.txt` of lower-cased text: names and values are one piece each, all printable ASCII is known.

    The `tokenizers` library learns it; raises UserError if it is not installed.
    """
    names = " ".join(name for group in (*FIRST_NAMES.values(), LAST_NAMES, *VALUES.values()) for name in group)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        # frequent words are merged first: repeated so often, a rare name becomes one piece before frequent words do
        WordPieceTokenizer.train([string.printable, *[names] * 300, *texts], path, vocabulary_size)
        return path.read_bytes()


def all_files(world: World | None = None) -> dict[str, bytes]:
    """Name -> content of every generated file of data/: the texts, and two vocabularies learned from them."""
    files = text_files(world or World())
    contents = {name: text.encode() for name, text in files.items()}
    texts = vocabulary_texts(files)
    return contents | {"vocabulary.model": sentencepiece_file(texts), "wordpiece.txt": wordpiece_file(texts)}


def text_files(world: World) -> dict[str, str]:
    """Name -> content of the passages, questions, reviews, translations and summaries."""
    sizes = world.sizes
    pretraining, pretraining_dev = pretraining_passages(world), pretraining_dev_passages(world)
    number_of_reviews = sizes.reviews_train + sizes.reviews_dev
    of_places = reviews(world.rng("reviews"), number_of_reviews)
    of_courses = reviews(world.rng("course reviews"), number_of_reviews, courses=True)
    translated_dev = sentences(world.rng("sentences dev"), world.strangers_dev, sizes.sentences_dev)
    translated = sentences(
        world.rng("sentences train"), world.strangers_train, sizes.sentences_train, exclude=translated_dev
    )

    def context(group: str, held_out: bool = False) -> list[ContextQuestions]:
        people, rng = getattr(world, f"strangers_{group}"), world.rng(f"context {group}")
        if group == "train":
            return context_questions(rng, people, rounds=sizes.rounds_train)
        return context_questions(rng, people, held_out=held_out)

    files = {
        "pretraining.txt": text_lines(pretraining),
        "pretraining_dev.txt": text_lines(pretraining_dev),
        "pretraining_spans.jsonl": marked_lines(pretraining),
        "reviews_train.jsonl": review_lines(of_places[: sizes.reviews_train]),
        "reviews_dev.jsonl": review_lines(of_places[sizes.reviews_train :]),
        "course_reviews_train.jsonl": review_lines(of_courses[: sizes.reviews_train]),
        "course_reviews_dev.jsonl": review_lines(of_courses[sizes.reviews_train :]),
        "kelbish_train.jsonl": sentence_lines(translated),
        "kelbish_dev.jsonl": sentence_lines(translated_dev),
        "summaries_train.jsonl": summary_lines(
            summaries(world.rng("summaries train"), world.strangers_train, sizes.summaries_train)
        ),
        "summaries_dev.jsonl": summary_lines(
            summaries(world.rng("summaries dev"), world.strangers_dev, sizes.summaries_dev)
        ),
    }
    for name, examples in {
        "context_train": context("train"),
        "context_dev": context("dev"),
        "context_dev_heldout_forms": context("dev", held_out=True),
        "closed_book_train": closed_book_questions(
            world.rng("closed book train"), world, world.asked, forms_per_fact=sizes.forms_per_fact
        ),
        "closed_book_dev": closed_book_questions(world.rng("closed book dev"), world, world.unasked),
        "closed_book_dev_heldout_forms": closed_book_questions(
            world.rng("closed book dev"), world, world.unasked, held_out=True
        ),
    }.items():
        files[f"{name}.json"] = squad_json(name, examples)
    return files


def vocabulary_texts(files: dict[str, str]) -> list[str]:
    """All passages, questions (training and held-out forms) and reviews of places, and the words of the tasks.

    Course reviews, translations and summaries are not among them: they are tasks that come later, as they do to a
    public model, whose vocabulary stays what it is.
    """
    texts = [TASK_WORDS] * 100
    for name, content in files.items():
        if name.startswith("pretraining"):
            texts += content.split("\n\n")
        elif name.startswith("reviews"):
            texts += [json.loads(line)["text"] for line in content.splitlines()]
        elif name.endswith(".json"):
            for article in json.loads(content)["data"]:
                for paragraph in article["paragraphs"]:
                    texts += [paragraph["context"], *(qa["question"] for qa in paragraph["qas"])]
    # SentencePiece considers only what occurs in two different words (here: with and without a comma).
    counts = Counter(word.strip(".,:;?") for text in texts for word in text.split())
    return texts + [f"{word}, {word}" for word, count in counts.items() if count >= 5]


def write_files(folder: str | Path, world: World | None = None) -> dict[str, int]:
    """Writes all files into `folder` and returns their sizes in bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for name, content in all_files(world).items():
        (folder / name).write_bytes(content)
        sizes[name] = len(content)
    return sizes


def bundled(name: str) -> Path:
    """Path of a bundled file, in a source checkout (data/) or in an installed wheel (tlqa_jax/data/files/).

    Raises UserError if there is no such file.
    """
    package = Path(__file__).resolve().parents[2]
    folders = (package.parent / "data", package / "data" / "files")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    names = sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()})
    raise UserError(f"the tiny world has no file {name!r}; it has {', '.join(names) or 'none: data/ is missing'}")
