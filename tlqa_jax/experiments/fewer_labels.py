"""The score against the number of labels, and against the number of steps: pretrained against random weights.

    tlqa experiment fewer-labels --quick
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, curve, score

PRETRAINED, RANDOM = "masked LM first", "random weights"
LABELS, STEPS = "after the same steps, by labels", "with all labels, by steps"
EXPERIMENT = Experiment(
    title="Does pretraining save labels and steps?",
    design="A small BERT learns to point at answers, from random weights or after masked LM on passages without labels: the "
    "same questions, the same steps of fine-tuning and the same seeds. The pretraining steps come on top; task-transfer has "
    "the control that spends as many steps on the questions.",
    score="F1, %", column="labels (left), steps (right)",
    claims=(
        Claim("Pretraining helps with few labels (up to 300)", PRETRAINED, RANDOM, LABELS, at=(100, 300)),
        Claim("Pretraining helps with all labels", PRETRAINED, RANDOM, LABELS, at=(3600,)),
        Claim("A score is reached in fewer steps: the mean over the steps is higher", PRETRAINED, RANDOM, STEPS),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    steps, starts = lab.pick(250, 800), {PRETRAINED: lab.masked_lm(), RANDOM: None}
    panels = {LABELS: {}, STEPS: {}}
    for way, start in starts.items():
        name = "pretrained" if start else "random"
        runs = {
            n: lab.point(f"{name}-{n}", start, labels=n, steps=steps, evaluate_every=steps // 5, decay="constant")
            for n in lab.pick((100, 300, 3600), (10, 30, 100, 300, 1000, 3600))
        }
        panels[LABELS][way] = {n: score(run, "f1") for n, run in runs.items()}
        panels[STEPS][way] = curve(runs[3600], "f1")
    return panels
