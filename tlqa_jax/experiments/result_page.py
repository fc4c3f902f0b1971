"""The result of an experiment for people: tables in the terminal, figure.png, and one HTML page."""

import html
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tlqa_jax.experiments.report import document, new_figure, svg

Result = dict[str, Any]


def with_spread(values: list[float]) -> str:
    """Mean and sample standard deviation: "81.2 ± 1.4"; of one seed the score alone."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def in_words(verdict: dict[str, Any]) -> str:
    """"holds (difference +3.1, 95% interval +0.2 to +6.0)"."""
    interval = "" if verdict["low"] is None else f", 95% interval {verdict['low']:+.1f} to {verdict['high']:+.1f}"
    return f"{verdict['words']} (difference {verdict['difference']:+.1f}{interval})"


def columns_of(scores: dict[str, dict[str, list[float]]]) -> list[str]:
    columns = list(dict.fromkeys(column for of_way in scores.values() for column in of_way))
    return sorted(columns, key=int) if are_numbers(columns) else columns


def are_numbers(columns: list[str]) -> bool:
    return all(column.isdecimal() for column in columns)


def warning(result: Result) -> str:
    """What a reader has to know before the figures, if anything."""
    if result["max_steps"]:
        return f"A trial: no run had more than {result['max_steps']} steps. The scores say nothing."
    return "One seed and short runs (--quick): to see what is measured, not to decide." if result["quick"] else ""


def print_result(result: Result, folder: Path) -> None:
    console = Console(highlight=False)
    for panel, scores in result["panels"].items():
        table = Table(result["column"], *columns_of(scores), title=f"{panel}: {result['score']}" if result["score"] else panel)
        for way, of_way in scores.items():
            table.add_row(way, *(with_spread(of_way[c]) if c in of_way else "" for c in columns_of(scores)))
        console.print(table)
    for text, verdict in result["claims"].items():
        console.print(f"{text}: {in_words(verdict)}", soft_wrap=True, markup=False)
    console.print(f"{warning(result)} The page is {folder}/index.html".strip(), soft_wrap=True, markup=False)


def write_figure(result: Result, folder: Path) -> str:
    """Draw one panel beside the other: curves over numbers, bars over names. Writes figure.png, returns it as SVG."""
    panels = result["panels"]
    figure, axes = new_figure(5.5 * len(panels), 3.8, columns=len(panels))
    for axis, (panel, scores) in zip(np.atleast_1d(axes), panels.items()):
        columns = columns_of(scores)
        numbers = len(columns) > 1 and are_numbers(columns)
        for place, (way, of_way) in enumerate(scores.items()):
            means = [np.mean(values) for values in of_way.values()]
            spreads = [np.std(values, ddof=1) if len(values) > 1 else 0 for values in of_way.values()]
            if numbers:
                axis.errorbar([int(c) for c in of_way], means, spreads, fmt="o-", capsize=3, markersize=4, label=way)
                continue
            width = 0.8 / len(scores)
            where = [columns.index(column) + (place + 0.5) * width - 0.4 for column in of_way]
            bars = axis.bar(where, means, 0.95 * width, yerr=spreads if any(spreads) else None, capsize=2, label=way)
            axis.bar_label(bars, fmt=lambda score: f"{score:.{0 if score >= 1 else 1}f}", fontsize=7, padding=1)
        if numbers:
            places = sorted(map(int, columns))
            axis.set(xscale="log" if places[0] and places[-1] >= 10 * places[0] else "linear", xlabel=result["column"])
            axis.set_xticks(places, [f"{place:,}" for place in places], rotation=30, fontsize=8, ha="right")
            axis.minorticks_off()
        else:
            axis.set_xticks(range(len(columns)), columns, fontsize=8)
        axis.set(title=panel, ylabel=result["score"], ylim=(0, 1.06 * axis.get_ylim()[1]))  # room for a bar's label
        axis.grid(alpha=0.3, axis="y")
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    figure.savefig(folder / "figure.png", dpi=120)
    return svg(figure)


def write_page(result: Result, figure: str, folder: Path) -> None:
    """One HTML page that needs no other file."""
    tables = ""
    for panel, scores in result["panels"].items():
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns_of(scores))
        rows = "".join(
            f"<tr><td>{html.escape(way)}</td>"
            + "".join(f"<td>{with_spread(of_way[c]) if c in of_way else ''}</td>" for c in columns_of(scores))
            + "</tr>"
            for way, of_way in scores.items()
        )
        tables += f"<h2>{html.escape(panel)}</h2><table><tr><th>{html.escape(result['column'])}</th>{head}</tr>{rows}</table>"
    claims = "".join(
        f"<li>{html.escape(text)}: <b>{html.escape(in_words(verdict))}</b></li>" for text, verdict in result["claims"].items()
    )
    seeds = f"{result['seeds']} seeds: mean ± standard deviation" if result["seeds"] > 1 else "one seed"
    what = f"{result['score']}; {seeds}" if result["score"] else seeds
    command = f"tlqa experiment {result['experiment']}{' --quick' if result['quick'] else ''}"
    body = (
        f"<h1>{html.escape(result['title'])}</h1><p>{html.escape(result['design'])}</p><p><b>{warning(result)}</b></p>"
        f"<h2>Does it hold?</h2><ul>{claims}</ul>{figure}<p>{html.escape(what)}.</p>{tables}"
        f"<p>Again: <code>{command}</code>. The scores of each seed are in result.json.</p>"
    )
    (folder / "index.html").write_text(document(result["title"], body), encoding="utf-8")
