"""The tiny world: a small invented place, told in varied English, for pretraining and for each kind of task.

In reading order:

    phrases.py         its names and values, and the sentence frames that state a fact
    question_forms.py  the forms of questions: those for training, and others that are held out
    passages.py        people, passages about them, questions
    reviews.py         reviews of places and of courses, positive or negative
    kelbish.py         an invented language, and sentences with their translations
    summaries.py       passages with summaries of one line
    files.py           the groups of people, and how each file of data/ is made
    baselines.py       what can be scored without understanding
    __main__.py        writes the files of data/

data/README.md describes the files.
"""

from tlqa_jax.data.tiny_world.baselines import Asked, chance, type_baseline, typed_mentions
from tlqa_jax.data.tiny_world.files import (
    ContextQuestions, World, WorldSizes, bundled, closed_book_questions, context_questions, marked_lines, write_files,
)  # fmt: skip
from tlqa_jax.data.tiny_world.passages import (
    Passage, Person, make_people, new_facts, questions, retell, tell, tell_among_others,
)  # fmt: skip
from tlqa_jax.data.tiny_world.phrases import RELATIONS, TYPE_OF, TYPES, VALUES
from tlqa_jax.data.tiny_world.reviews import reviews

__all__ = [
    "RELATIONS", "TYPES", "TYPE_OF", "VALUES",
    "Passage", "Person", "make_people", "new_facts", "questions", "retell", "tell", "tell_among_others", "reviews",
    "World", "WorldSizes", "ContextQuestions", "bundled", "closed_book_questions", "context_questions", "marked_lines",
    "write_files", "Asked", "chance", "type_baseline", "typed_mentions",
]  # fmt: skip
