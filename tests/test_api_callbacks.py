"""Lightning's and Hugging Face's trainers call a monitor."""

from __future__ import annotations

import pytest
import torch
from brute import bad
from torch import Tensor, nn
from watched import RATE, data, network, problem

from stability.api.callbacks import lightning, transformers
from stability.api.monitor import Monitor


def test_lightning_calls_the_monitor_and_its_logger_gets_the_numbers(tmp_path):
    library = pytest.importorskip("lightning.pytorch")
    logged: list[tuple[int, dict]] = []

    class Logger(library.loggers.logger.DummyLogger):
        def log_metrics(self, metrics: dict, step: int | None = None) -> None:
            logged.append((step, metrics))

    class Task(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=RATE)

    task = Task()
    monitor = Monitor(problem(task.network), every=5, network=lambda task: task.network, on_alarm=None)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=8)
    trainer = library.Trainer(
        max_steps=20, accelerator="cpu", logger=Logger(), callbacks=[lightning(monitor)], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, log_every_n_steps=1000,
    )  # fmt: skip
    trainer.fit(task, loader)
    assert [e.step for e in monitor.events] == [1, 5, 10, 15, 20]
    assert monitor.events[-1].felt > 0.3, "without augmentation; the gradient of the step is seen"
    ours = [step for step, metrics in logged if "stability/distance" in metrics]
    assert ours == [e.step for e in monitor.events]


def test_the_trainer_of_hugging_face_calls_the_monitor(tmp_path):
    library = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.network(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    task, (x, y) = Task(), data()
    monitor = Monitor(problem(task.network), every=5, network=lambda task: task.network, on_alarm=None)
    arguments = library.TrainingArguments(
        output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=8, learning_rate=0.01, report_to=[],
        save_strategy="no", logging_strategy="no", use_cpu=True, disable_tqdm=True, weight_decay=0.0,
    )  # fmt: skip
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    trainer = library.Trainer(task, arguments, train_dataset=rows, callbacks=[transformers(monitor)])
    trainer.train()
    assert [e.step for e in monitor.events] == [1, 5, 10, 15, 20]
    looks = [e.curvature for e in monitor.events]
    assert looks[1].threshold == pytest.approx(38 / (0.01 * 16 / 20), rel=1e-6), "Adam's, at the rate of that step"
    assert looks[1].growth is not None and not monitor.notes
    assert monitor.events[-1].noise is not None


def test_a_callback_of_a_library_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("stability.api.callbacks.import_module", _missing)
    monitor = Monitor(problem(network()))
    with bad("lightning is not installed"):
        lightning(monitor)
    with bad("transformers is not installed"):
        transformers(monitor)


def _missing(name: str) -> None:
    raise ImportError(name)
