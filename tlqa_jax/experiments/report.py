"""The quickstart's report: a table and what follows from it in the terminal, and one HTML page with the figures."""

import html
import io
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tlqa_jax.training.progress import read_metrics

ROWS = {  # what is compared -> the figures of (context, closed book)
    "pretrained on text and questions": ("context_em", "closed_book_em"),
    "the same, question forms never seen": ("context_em_heldout_forms", "closed_book_em_heldout_forms"),
    "text alone, then as many questions": ("context_em_text_then_questions", "closed_book_em_text_then_questions"),
    "as many questions, no pretraining": ("context_em_questions_alone", "closed_book_em_questions_alone"),
    "best rule by type and position": ("context_em_baseline", None),
    "chance: the commonest answer": ("context_chance_em", "chance_em"),
}
GROUPS = {"context": "Reading", "closed_book": "Remembering"}


def write_report(out: Path, report: dict[str, float], examples: list[dict]) -> None:
    """Print the results; write `report.html` and its bars as `report.png`."""
    console = Console(highlight=False)  # a `Text` keeps rich from reading what a model wrote as markup
    table = Table("exact match, %", title="What was learned")
    table.add_column("reading: people never seen", justify="right")
    table.add_column("remembering: people never asked about", justify="right")
    for name, figures in ROWS.items():
        table.add_row(name, *("" if figure is None else f"{report[figure]:.1f}" for figure in figures))
    console.print(table)
    for sentence in findings(report):
        console.print(Text(sentence))
    for row in examples:
        if row["context"]:
            console.print(Text(f"\n{row['context']}", "dim"))
        mark = "right" if row["text"] == row["gold"] else f"wrong: {row['gold']}"
        behind = f"  ({row['probability']:.0%} sure, {mark})"
        console.print(Text.assemble(row["question"], "  ", (row["text"], "bold"), behind))
    question = next(row["question"] for row in examples if not row["context"])
    where = f"The report is in {out}/report.html. Next, ask something yourself:"
    console.print(Text(f"\n{report['seconds']:.0f} seconds. {where}"))
    command = f"  tlqa answer {shlex.quote(str(out))} --question {shlex.quote(question)}"
    console.print(Text(command), soft_wrap=True)
    figure = bars(report)
    figure.savefig(out / "report.png", dpi=120)
    (out / "report.html").write_text(page(report, examples, svg(figure), svg(curves(out, report))))


def bars(report: dict[str, float]):
    """The table as bars: a figure."""
    figure, axes = new_figure(7, 3)
    names = list(ROWS)
    for offset, group, color in ((-0.2, 0, "#2a6f97"), (0.2, 1, "#e09f3e")):
        values = [report[ROWS[name][group]] if ROWS[name][group] else 0 for name in names]
        label = (
            "reading: a passage about people never seen",
            "remembering: no passage, people never asked about",
        )[group]
        drawn = axes.barh([i + offset for i in range(len(names))], values, 0.38, color=color, label=label)
        axes.bar_label(
            drawn, [f"{v:.0f}" if ROWS[n][group] else "" for v, n in zip(values, names)], padding=2, fontsize=8
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 108), xlabel="exact match, %")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def curves(out: Path, report: dict[str, float]):
    """Exact match against the rows of questions seen, of the three models: a figure."""
    figure, axes = new_figure(7, 3, columns=2)
    labels = {
        "finetuned": "text and questions, then questions",
        "text_then_questions": "the text alone, then questions",
        "questions_alone": "questions alone",
    }
    for axis, (group, title) in zip(axes, GROUPS.items()):
        for run, label in labels.items():
            before = report["question_rows_of_pretraining"] if run == "finetuned" else 0
            name = f"eval_{group}_qa_em"
            rows = [row for row in read_metrics(out / run / "metrics.jsonl") if name in row]
            rows_a_step = (report["question_rows"] - before) / rows[-1]["step"]
            seen = [(before + rows_a_step * row["step"]) / 1000 for row in rows]
            axis.plot(seen, [row[name] for row in rows], "o-", markersize=4, label=label)
        axis.set(title=title, xlabel="rows of questions seen, thousands", ylabel="exact match, %", ylim=(-3, 105))
        axis.set_xlim(0, None)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    return figure


def findings(report: dict[str, float]) -> list[str]:
    """What follows from the scores, a sentence each."""
    sentences = [f"Each of the three models has seen {report['question_rows']:,} rows of questions."]
    for group, name in GROUPS.items():
        score, questions = report[f"{group}_em"], report[f"{group}_questions"]
        alone, text = report[f"{group}_em_questions_alone"], report[f"{group}_em_text_then_questions"]
        sentences += [
            f"{name}: {score:.1f} with pretraining, {alone:.1f} without it: {compared(score, alone, questions)}.",
            f"{name}: {text:.1f} with the text first and all questions after it. Mixing them: "
            f"{compared(score, text, questions)}.",
        ]
    return sentences


def compared(score: float, other: float, questions: int) -> str:
    """Whether one of two exact matches in percent is higher, by the 95% interval of their difference.

    Agresti and Caffo 2000: the interval of a difference of proportions after one right and one wrong answer more for both.
    """
    first, second = ((one / 100 * questions + 1) / (questions + 2) for one in (score, other))
    error = 1.96 * ((first * (1 - first) + second * (1 - second)) / (questions + 2)) ** 0.5
    low, high = 100 * (first - second - error), 100 * (first - second + error)
    if low > 0:
        return f"better by {low:.0f} to {high:.0f} points"
    if high < 0:
        return f"worse by {-high:.0f} to {-low:.0f} points"
    return f"no difference that {questions} questions could show"


def new_figure(width: float | int, height: float | int, columns: int = 1):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def page(report: dict[str, float], examples: list[dict], *figures: str) -> str:
    """One HTML page that needs no other file."""
    passage = lambda row: f"<i>{html.escape(row['context'])}</i><br>" if row["context"] else ""
    value = lambda figure: "" if figure is None else f"{report[figure]:.1f}"
    follows = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in findings(report))
    table = "".join(
        f"<tr><td>{name}</td>" + "".join(f"<td>{value(figure)}</td>" for figure in pair) + "</tr>"
        for name, pair in ROWS.items()
    )
    answers = "".join(
        f"<p>{passage(row)}{html.escape(row['question'])} "
        f"<b>{html.escape(row['text'])}</b> ({row['probability']:.0%} sure; right is {html.escape(row['gold'])})</p>"
        for row in examples
    )
    return document("tlqa quickstart", f"""<h1>A tiny T5 that reads and remembers</h1>
<p>Pretrained by span corruption on the bundled tiny world, then fine-tuned on questions; seed {report["seed"]},
{report["seconds"]:.0f} seconds. Questions about other people were mixed into pretraining. Two other models show what
that brings: they learned from as many questions in all, one without pretraining, one after as much text alone.</p>
<table><tr><th>exact match, %</th><th>reading</th><th>remembering</th></tr>{table}</table>
<p>Reading: a passage and a question about people who are in no training file. Remembering: the question alone, about
people whose passages were in the pretraining text, and about whom no question was ever asked.</p>
<ul>{follows}</ul>
{"".join(figures)}<h2>In words</h2>{answers}""")


def document(title: str, body: str) -> str:
    """An HTML page with the style of all our pages."""
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}}
td:first-child{{text-align:left}}svg{{max-width:100%;height:auto}}</style>
{body}</html>
"""
