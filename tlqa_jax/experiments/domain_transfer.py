"""Reviews of places first, then a few reviews of courses, against training on the few alone.

    tlqa experiment domain-transfer --quick

A small BERT, pretrained by masked LM on passages about people. Courses are praised and blamed in other words than
places, in sentences of the same kind.
"""

from pathlib import Path

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.training.finetune_classifier import finetune_classifier

ALONE, LONGER, FIRST = "course reviews alone", "alone, as many steps in all", "place reviews first"
PANEL = "course reviews never seen"
EXPERIMENT = Experiment(
    title="Does sentiment learned in one domain help in another?",
    design="A small BERT, pretrained by masked LM on passages about people, learns sentiment from 10 to 1,000 reviews of "
    "courses: alone, or after 1,500 reviews of places. The same course reviews, the same steps on them and the same seeds; because the model that saw "
    "places has trained for longer, a third one sees the course reviews alone for as many steps in all.",
    score="accuracy, %", column="course reviews with labels",
    claims=(
        Claim("Reviews of another kind help where labels are few (up to 100)", FIRST, ALONE, PANEL, at=(10, 100)),
        Claim("They help more than the same number of further steps (up to 100)", FIRST, LONGER, PANEL, at=(10, 100)),
        Claim("They still help with 1,000 labels", FIRST, LONGER, PANEL, at=(1000,)),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    first, then = lab.pick((250, 100), (600, 300))  # steps on places, on courses
    pretrained = lab.masked_lm()
    on_places = lab.train(
        finetune_classifier, "places", start_from=str(pretrained), steps=first, input_length=80,
        texts="tiny_world:reviews_train.jsonl", held_out=None,
    )  # fmt: skip

    def on_courses(run: str, labels: int, steps: int, start_from: Path = pretrained) -> float:
        run = lab.train(
            finetune_classifier, f"{run}-{labels}", steps=steps, start_from=str(start_from), input_length=80,
            texts=lab.take("course_reviews_train.jsonl", labels), held_out="tiny_world:course_reviews_dev.jsonl",
        )  # fmt: skip
        return 100 * score(run, "accuracy")

    labels = lab.pick((10, 100, 1000), (10, 30, 100, 300, 1000))
    return {
        PANEL: {
            ALONE: {n: on_courses("alone", n, then) for n in labels},
            LONGER: {n: on_courses("longer", n, first + then) for n in labels},
            FIRST: {n: on_courses("after-places", n, then, on_places) for n in labels},
        }
    }
