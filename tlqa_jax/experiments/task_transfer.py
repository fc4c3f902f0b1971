"""Sentiment first, then questions, against questions alone and against masked LM first.

    tlqa experiment task-transfer --quick

A small BERT that points at answers in passages of the tiny world.
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import READING, Experiment, Lab, Panels, score
from tlqa_jax.training.finetune_classifier import finetune_classifier

ALONE, LONGER, SENTIMENT, MASKED_LM = "questions alone", "alone, as many steps in all", "sentiment first", "masked LM first"
PANEL = "questions about strangers' passages"
EXPERIMENT = Experiment(
    title="Does one task help another?",
    design="A small BERT learns to point at answers: from random weights, after learning the sentiment of reviews, or after "
    "masked language modelling on passages without labels. The same questions, the same steps on them and the same seeds; "
    "what comes first has the same number of steps in both cases, and a fourth model spends them on the questions, too.",
    score="F1, %", column="questions with answers",
    claims=(
        Claim("Sentiment first helps question answering", SENTIMENT, ALONE, PANEL),
        Claim("Sentiment first helps more than the same number of further steps on the questions", SENTIMENT, LONGER, PANEL),
        Claim("Masked LM first helps more than sentiment first", MASKED_LM, SENTIMENT, PANEL),
        Claim("Masked LM first helps more than the same number of further steps on the questions", MASKED_LM, LONGER, PANEL),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    then = lab.pick(250, 600)
    pretrained = lab.masked_lm()
    first = lab.masked_lm_steps
    sentiment = lab.train(
        finetune_classifier, "sentiment", steps=first, texts="tiny_world:reviews_train.jsonl", held_out=None,
        input_length=READING["input_length"],
    )  # fmt: skip
    ways = {ALONE: (None, then), LONGER: (None, first + then), SENTIMENT: (sentiment, then), MASKED_LM: (pretrained, then)}
    return {
        PANEL: {
            way: {
                n: score(lab.point(f"{way.split(',')[0].replace(' ', '-')}-{n}-{steps}", start, labels=n, steps=steps), "f1")
                for n in lab.pick((1000, 3600), (300, 1000, 3600))
            }
            for way, (start, steps) in ways.items()
        }
    }
