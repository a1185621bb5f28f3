"""Numbers reach the libraries that people look at them with, through those libraries' own interfaces."""

from __future__ import annotations

import pytest
from brute import bad
from watched import everything, sgd, trained

from stability.api.sinks import sink


def test_what_takes_no_numbers_is_refused():
    with bad("SummaryWriter"):
        sink(3)


def test_numbers_reach_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        found = trained(sgd(), everything, 41, log=writer)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    written = [(e.step, e.value) for e in read.Scalars("stability/distance")]
    assert written == [(e.step, pytest.approx(e.distance, rel=1e-6)) for e in found.events]
    assert "stability/lowest" in read.Tags()["scalars"]


def test_numbers_reach_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=tmp_path, project="stability")
    found = trained(sgd(), everything, 21, log=run)
    kept = run.summary["stability/distance"], run.summary["_step"]
    run.finish()
    # A step's row is shut when the next one comes: of the looks at 1 and 20 the first is whole.
    assert kept == (pytest.approx(found.events[0].distance), 1)
    assert list(tmp_path.rglob("*.wandb"))


def test_numbers_reach_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("watched")
    with mlflow.start_run() as run:
        found = trained(sgd(), everything, 21, log=mlflow)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "stability/distance")
    assert [(m.step, m.value) for m in history] == [(e.step, pytest.approx(e.distance)) for e in found.events]
