"""A small invented place, told in varied English: people with facts, questions, and reviews. See data/README.md."""

from tlqa_jax.data.tiny_world.baselines import Asked, chance, type_baseline, typed_mentions
from tlqa_jax.data.tiny_world.files import (
    ContextQuestions,
    World,
    WorldSizes,
    bundled,
    closed_book_questions,
    context_questions,
    marked_lines,
    pretraining_dev_passages,
    pretraining_passages,
    resident_passages,
    retold_passages,
    train_vocabulary,
    train_wordpiece,
    write_files,
)
from tlqa_jax.data.tiny_world.passages import (
    Mention,
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
from tlqa_jax.data.tiny_world.phrases import RELATIONS, TYPE_OF, TYPES, VALUES
from tlqa_jax.data.tiny_world.reviews import Review, reviews

__all__ = [
    "RELATIONS", "TYPES", "TYPE_OF", "VALUES",
    "Mention", "Passage", "Person", "Question",
    "make_people", "new_facts", "questions", "retell", "tell", "tell_among_others",
    "Review", "reviews",
    "World", "WorldSizes", "ContextQuestions", "bundled", "closed_book_questions", "context_questions", "marked_lines",
    "pretraining_passages", "pretraining_dev_passages", "resident_passages", "retold_passages",
    "train_vocabulary", "train_wordpiece", "write_files",
    "Asked", "chance", "type_baseline", "typed_mentions",
]  # fmt: skip
