"""One T5 for six tasks against one model a task: equal steps in total, and as many steps as one of them had.

    tlqa experiment one-model-many-tasks --quick

Everything is text (Raffel et al. 2020, section 2.4): sentiment, the type of a question, questions with a passage and
from memory, translation into Kelbish, summaries.
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.tasks.text_tasks import TASKS
from tlqa_jax.training.finetune_qa import finetune_qa

EACH, SAME_TOTAL, SAME_STEPS = "a model each", "one for all, equal steps in total", "one for all, steps of one of them"
PANEL = "held-out examples"
SIX = ("sentiment", "question_type", "context_qa", "closed_book_qa", "kelbish", "summarisation")
EXPERIMENT = Experiment(
    title="Can one model do many tasks?",
    design="A tiny T5, pretrained by span corruption, learns six tasks: in six models, or in one whose batches hold all tasks "
    "equally often. With equal steps in total the one model has seen as many rows of each task as its own model had; with the "
    "steps of one of them a sixth of that. The same start, data and seeds.",
    score="accuracy, exact match, BLEU or ROUGE-1, %", column="task",
    claims=(
        Claim("With equal steps in total, one model is as good on average (at most 3 points lower)", SAME_TOTAL, EACH, PANEL,
              margin=-3.0),
        Claim("With the steps of one of them, one model is as good on average (at most 3 points lower)", SAME_STEPS, EACH,
              PANEL, margin=-3.0),
        *(Claim(f"Learning the other tasks, too, helps {task}", SAME_TOTAL, EACH, PANEL, at=(task,)) for task in SIX),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    steps, held_out = lab.pick((100, 100), (1000, 300))  # steps a task, held-out examples of each
    pretrained = str(lab.spans())
    sources = {task: lab.take(TASKS[task].held_out.removeprefix("tiny_world:"), held_out) for task in SIX}

    def learn(run: str, tasks: tuple[str, ...], steps: int) -> dict[str, float]:
        run = lab.train(
            finetune_qa, run, start_from=pretrained, tasks=tasks, mixing="equal", steps=steps, input_length=64,
            target_length=36, relative_bias_rate=30.0, train_on=tuple(f"{task}={TASKS[task].train}" for task in tasks),
            held_out=tuple(f"{task}={sources[task]}" for task in tasks),
        )  # fmt: skip
        metric = {task: "em" if TASKS[task].questions else TASKS[task].metrics[0] for task in tasks}
        return {task: score(run, f"{task}_{metric[task]}") for task in tasks}

    return {
        PANEL: {
            EACH: {task: learn(f"alone-{task}", (task,), steps)[task] for task in SIX},
            SAME_TOTAL: learn("all-total", SIX, len(SIX) * steps),
            SAME_STEPS: learn("all-steps", SIX, steps),
        }
    }
