"""What the quickstart is told, and what it tells its programs: refused in time, and for any number of devices."""

import jax
import pytest

from tlqa_jax.checkpoints.run_record import finish_run, start_run
from tlqa_jax.errors import UserError
from tlqa_jax.experiments import quickstart as module
from tlqa_jax.experiments.quickstart import QuickstartSettings, quickstart


class Stop(Exception):
    pass


@pytest.fixture
def first_program(monkeypatch):
    """The quickstart up to its first program, whose settings it raises."""

    def pretrain_spans(settings, **_):
        raise Stop(settings)

    def build_world(folder, seed):
        folder.mkdir(exist_ok=True)
        for name in ("pretraining", "mixed_in"):
            (folder / f"{name}.jsonl").write_text("")

    monkeypatch.setattr(module, "pretrain_spans", pretrain_spans)
    monkeypatch.setattr(module, "build_world", build_world)


@pytest.mark.parametrize("devices, rows", [(1, 64), (3, 66), (5, 65), (6, 66), (7, 70), (8, 64), (96, 96)])
def test_any_number_of_devices_will_do(devices, rows, tmp_path, first_program, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    with pytest.raises(Stop) as stopped:
        quickstart(QuickstartSettings(out=str(tmp_path / "run")), quiet=True)
    assert stopped.value.args[0].batch_size == rows


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(pretrain_steps=0), "--pretrain-steps is 0: it has to be at least 1"),
        (dict(finetune_steps=-2), "--finetune-steps is -2"),
        (dict(seed=-1), "--seed is -1"),
        (dict(salient_share=0.51), "--salient-share is 0.51: it has to be at least 0 and at most 0.5"),
        (dict(salient_share=0.005), "--salient-share is 0.005: it has to be 0, or from 0.02 to 0.5"),
    ],
)
def test_nothing_is_deleted_for_settings_that_cannot_be_meant(changes, message, tmp_path, first_program):
    run = start_run(tmp_path / "run", {"program": "quickstart", "main": "finetuned", "settings": {}, "inputs": {}})
    (run / "report.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        quickstart(QuickstartSettings(out=str(run), overwrite=True, **changes), quiet=True)
    assert (run / "report.json").exists()
    with pytest.raises(Stop):
        quickstart(QuickstartSettings(out=str(run), overwrite=True, salient_share=0.5), quiet=True)
    assert not (run / "report.json").exists()


def test_the_same_command_again_continues_or_says_that_it_is_complete(tmp_path, first_program, capsys):
    settings = QuickstartSettings(out=str(tmp_path / "run"))
    for _ in range(2):
        with pytest.raises(Stop):
            quickstart(settings, quiet=True)
    with pytest.raises(UserError, match="seed was 0, is 1: give another --out, or --overwrite to delete it"):
        quickstart(QuickstartSettings(out=str(tmp_path / "run"), seed=1), quiet=True)
    (tmp_path / "run" / "report.json").write_text('{"context_em": 12.5}')
    finish_run(tmp_path / "run")
    assert quickstart(settings) == {"context_em": 12.5}
    assert "is complete: see" in capsys.readouterr().out
