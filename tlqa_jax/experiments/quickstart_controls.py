"""The quickstart's claims beside controls: what does pretraining do, and what do the questions that it saw?

    tlqa experiment quickstart-controls --quick

The quickstart mixes questions into pretraining. Here its model stands beside models that saw as many questions without any
pretraining, and beside models whose pretraining was text alone.
"""

from pathlib import Path

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.experiments.quickstart import FINETUNING, PRETRAINING, build_world
from tlqa_jax.training.finetune_qa import finetune_qa
from tlqa_jax.training.pretrain_spans import pretrain_spans

MIXED, TEXT, NONE = "text and questions mixed, then questions", "text alone, then questions", "questions alone"
READING, REMEMBERING = "reading: people never seen", "remembering: people never asked about"
FEW, SAME, MORE = 500, 1250, 2250  # steps of questions: the quickstart's fine-tuning, all that it sees, and more
EXPERIMENT = Experiment(
    title="What does the quickstart's pretraining do?",
    design="Tiny T5s. The quickstart's pretrains for 1,500 steps, half of whose rows are questions, and then learns from "
    "questions for 500: it sees 1,250 steps of questions and 750 of text. Its controls see no text, or the 750 steps of "
    "text first and all questions afterwards. The same files, rows a step and seeds. With --quick, a fifth of all steps.",
    score="exact match, %", column="steps of questions (--quick: a fifth)",
    claims=(
        Claim("Reading: after few questions, text first is better than no pretraining", TEXT, NONE, READING, at=(FEW,)),
        Claim("Reading: with as many questions as the quickstart saw, its pretraining still helps", MIXED, NONE, READING,
              at=(SAME,)),
        Claim("Reading: pretraining makes it possible: even more questions without it stay 10 points lower", MIXED, NONE,
              READING, at=(SAME,), worse_at=(MORE,), margin=10.0),
        Claim("Reading: mixing questions into pretraining is better than text first", MIXED, TEXT, READING, at=(SAME,)),
        Claim("Remembering: text makes it possible: even more questions without it stay lower", TEXT, NONE, REMEMBERING,
              at=(SAME,), worse_at=(MORE,)),
        Claim("Remembering: mixing questions into pretraining is better than text first", MIXED, TEXT, REMEMBERING,
              at=(SAME,)),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    part = lab.pick(5, 1)
    build_world(lab.folder / "world", lab.seed)
    world = {path.stem: str(path) for path in (lab.folder / "world").iterdir()}

    def pretrain(run: str, steps: int, **rows: str | float) -> Path:
        return lab.train(
            pretrain_spans, run, steps=steps // part, model="tiny", batch_size=64, texts=world["pretraining"],
            held_out=None, **PRETRAINING, **rows,
        )  # fmt: skip

    def ask(run: str, steps: int, start_from: Path | None, before: int = 0) -> dict[str, dict[int, float]]:
        """Panel -> steps of questions seen, with the `before` of pretraining -> score."""
        run = lab.train(
            finetune_qa, run, start_from=start_from and str(start_from), steps=steps // part, batch_size=64,
            context_questions=world["reading"], closed_book_questions=world["remembering"],
            held_out_context=world["reading_dev"], held_out_closed_book=world["remembering_dev"],
            decay="constant", evaluate_every=250 // part, **({} if start_from else {"model": "tiny"}), **FINETUNING,
        )  # fmt: skip
        names = {READING: "context_qa_em", REMEMBERING: "closed_book_qa_em"}
        seen = range(250, steps + 1, 250)
        return {panel: {before + n: score(run, name, n // part) for n in seen} for panel, name in names.items()}

    mixed = pretrain("mixed", 1500, questions=world["mixed_in"], questions_share=0.5, salient_share=0.4)
    text = pretrain("text", 750, salient_share=0.8)
    ways = {
        MIXED: ask("mixed-then-questions", FEW, mixed, before=SAME - FEW),
        TEXT: ask("text-then-questions", SAME, text),
        NONE: ask("questions", MORE, None),
    }
    return {panel: {way: panels[panel] for way, panels in ways.items()} for panel in (READING, REMEMBERING)}
