"""What the model wrote stands in the report as it is, whatever rich or a browser would make of it."""

from pathlib import Path

from tlqa_jax.experiments import report

FIGURES = {name: 12.5 for pair in report.ROWS.values() for name in pair if name} | {"seed": 0, "seconds": 9.0}
WRITTEN = "[/x] <b>:smile: [red]"


def test_what_looks_like_markup_is_none(tmp_path, monkeypatch, capsys):
    for name in ("bars", "curves"):
        monkeypatch.setattr(report, name, lambda *_: "")
    row = dict(question="Who [/dim] & <i>?", context="", gold="Ann", text=WRITTEN, probability=0.5)
    monkeypatch.setenv("COLUMNS", "120")
    report.write_report(tmp_path, FIGURES, [row, row | {"context": "[bold] is [/q]"}])
    lines = capsys.readouterr().out.splitlines()
    said = f"Who [/dim] & <i>?  {WRITTEN}  (50% sure, wrong: Ann)"
    assert lines.count(said) == 2 and "[bold] is [/q]" in lines
    assert lines[-1] == f"  tlqa answer {tmp_path} --question 'Who [/dim] & <i>?'"
    page = Path(tmp_path / "report.html").read_text()
    assert "<b>[/x] &lt;b&gt;:smile: [red]</b>" in page and "Who [/dim] &amp; &lt;i&gt;?" in page
