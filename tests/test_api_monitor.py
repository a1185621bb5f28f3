"""A monitor beside training runs whose reasons are known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache

import pytest
import torch
from brute import bad
from torch import Tensor, nn

import stability
from stability.api.alarms import Event
from stability.api.callbacks import lightning, transformers
from stability.api.monitor import Monitor
from stability.groups import Cyclic, Dihedral, MatrixRepresentation, trivial
from stability.problem.problem import Problem
from stability.tasks import TaskOptions, load

RATE = 0.3


def network(kink: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    bend = nn.ReLU() if kink else nn.Tanh()
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), bend, *pool, nn.Linear(3, 2)).double()


@cache
def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rough = x.diff(dim=2).square().mean((1, 2, 3)) + x.diff(dim=3).square().mean((1, 2, 3))
    return x, (rough > rough.median()).long()


def problem(module: nn.Module, weight_decay: float = 0.0) -> Problem:
    one = trivial(Dihedral(4))
    channels = {"0": (one, 3 * one), "4": (3 * one, 2 * one)}
    return stability.from_module(module, nn.CrossEntropyLoss(), data(), channels, weight_decay=weight_decay)


def moved(x: Tensor, k: int) -> Tensor:
    x = x.rot90(k % 4, (2, 3))
    return x.flip(3) if k >= 4 else x


def trained(
    make: Callable[[list], torch.optim.Optimizer],
    elements: Callable[[int], range | list[int]],
    steps: int,
    *,
    weight_decay: float = 0.0,
    kink: bool = False,
    push: float = 1e-6,
    **options: object,
) -> Monitor:
    """A network started ``push`` from E and trained on data moved by chosen elements."""
    model = network(kink)
    case = problem(model, weight_decay)
    model.load_state_dict(stability.project(case, model))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += push * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimiser = make(list(model.parameters()))
    monitor = Monitor(case, optimiser, **{"every": 20, "on_alarm": None, **options})
    x, y = data()
    for step in range(steps):
        chosen = elements(step)
        loss = sum(nn.functional.cross_entropy(model(moved(x, k)), y) for k in chosen) / len(chosen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        monitor(model)
    return monitor


def sgd(rate: float = RATE, **options: float) -> Callable[[list], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, **options)


def everything(step: int) -> range:
    return range(8)


def reasons(monitor: Monitor) -> set[str]:
    return {alarm.reason for alarm in monitor.raised}


class Pair(nn.Module):
    """The weights of the counterexample."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.A_0 = nn.Parameter(at.clone())


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_counterexample_is_announced_at_the_first_look_with_the_growth_that_follows(beta):
    case = load("counterexample", TaskOptions())
    module = Pair(torch.tensor([[0.5 + 1e-9], [0.5 - 1e-9]], dtype=torch.float64))
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01, momentum=beta)
    monitor = Monitor(case, optimiser, every=40, on_alarm=None)
    for _ in range(160):
        module.A_0.grad = torch.func.grad(case.augmented_risk)(module.A_0.detach().flatten()).reshape(2, 1)
        optimiser.step()
        monitor(module)
    assert [alarm.reason for alarm in monitor.raised] == ["instability"]
    assert monitor.raised[0].step == 1
    first, last = monitor.events[0].curvature, monitor.events[-1]
    assert first.lowest == pytest.approx(-1.0, abs=1e-6)
    # Momentum makes a step ten times as long in flow time, and the growth a step follows it.
    assert last.time == pytest.approx(160 * 0.01 / (1 - beta))
    assert last.growth == pytest.approx(first.growth, rel=1e-4)
    assert monitor.raised[0].doubling == pytest.approx(math.log(2) / first.growth)


def test_with_momentum_a_network_grows_by_no_more_than_the_multiplier_says_and_by_a_good_part_of_it():
    found = trained(sgd(0.02, momentum=0.9), everything, 400, push=1e-7)
    seen = [(a.curvature.growth, b.growth) for a, b in zip(found.events[4:], found.events[5:], strict=False)]
    for told, grown in seen[-5:]:
        assert 0.4 * told < grown < 1.05 * told


def test_what_is_seen_is_what_diagnose_says():
    found = trained(sgd(), everything, 20)
    model = network()
    model.load_state_dict(stability.project(problem(model), model))
    alone = Monitor(problem(model), every=1, on_alarm=None, products=40)
    event = alone.look(model)
    judged = stability.diagnose(problem(model), model)
    assert event.curvature.lowest == pytest.approx(judged.lowest, rel=1e-9)
    assert (event.curvature.irrep, event.curvature.sign) == (judged.irrep, judged.sign)
    assert event.forcing == pytest.approx(judged.forcing)
    assert sum(one.distance**2 for one in found.events[-1].sectors) == pytest.approx(found.events[-1].distance ** 2)


def test_without_augmentation_the_reason_is_forcing_and_with_all_of_the_group_it_is_not():
    plain, exact = trained(sgd(), lambda step: [0], 60), trained(sgd(), everything, 60)
    assert "forcing" in reasons(plain) and plain.events[-1].felt > 0.5
    assert "forcing" not in reasons(exact) and abs(exact.events[-1].felt) < 1e-3


def test_one_random_element_a_step_is_noise_and_not_forcing():
    drawn = torch.randint(8, (400,), generator=torch.Generator().manual_seed(2)).tolist()
    found = trained(sgd(), lambda step: [drawn[step]], 400, every=100)
    assert "noise" in reasons(found) and "forcing" not in reasons(found)


def test_a_step_beyond_what_the_rule_bears_is_announced_as_such():
    found = trained(sgd(weight_decay=1.0), everything, 40, weight_decay=1.0)
    assert not reasons(found), "decay makes every eigenvalue positive"
    assert any("counted once" in note for note in found.notes)
    assert found.events[-1].curvature.lowest == pytest.approx(1.0, abs=0.2)
    longer = trained(sgd(2.2, weight_decay=1.0), everything, 4, weight_decay=1.0, every=2)
    assert reasons(longer) == {"step too long"}
    assert longer.events[0].curvature.threshold == pytest.approx(2 / 2.2)


def test_adam_under_rotations_that_mix_weights_is_announced_as_not_commuting():
    about = 2 * math.pi / 3 / 14**0.5 * torch.tensor([[0, -3, 2], [3, 0, -1], [-2, 1, 0]], dtype=torch.float64)
    group = Cyclic(3)  # a third of a turn about (1, 2, 3)
    rho = MatrixRepresentation(group, 3, lambda g: torch.linalg.matrix_exp(g * about).numpy(), "turns")
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x.norm(dim=1) > 1.5).long()
    torch.manual_seed(0)

    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).square().sum(1, keepdim=True))

    module, one = Norms().double(), trivial(group)
    case = stability.from_module(module, nn.CrossEntropyLoss(), (x, y), {"first": (rho, rho), "second": (one, 2 * one)})
    for make, expected in ((torch.optim.Adam, True), (torch.optim.SGD, False)):
        monitor = Monitor(case, make(module.parameters(), lr=1e-2), every=1, on_alarm=None)
        nn.functional.cross_entropy(module(x), y).backward()
        monitor(module)
        assert ("does not commute" in reasons(monitor)) is expected


def test_kinks_and_batch_norm_are_said():
    kinked = trained(sgd(), everything, 20, kink=True)
    assert any("kinks" in note for note in kinked.notes)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), *network()[2:]).double()
    one = trivial(Dihedral(4))
    channels = {"0": (one, 3 * one), "1": 3 * one, "5": (3 * one, 2 * one)}
    case = stability.from_module(model.eval(), nn.CrossEntropyLoss(), data(), channels)
    monitor = Monitor(case, every=1, on_alarm=None)
    monitor(model.train())
    assert any("batch norm" in note for note in monitor.notes)


def test_by_default_the_monitor_takes_no_more_than_its_share():
    model = network()
    case, optimiser = problem(model), torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = Monitor(case, optimiser, on_alarm=None, share=0.2)
    for _ in range(60):
        time.sleep(0.02)
        monitor(model)
    assert monitor.training >= 60 * 0.02 * 0.9
    # One piece may turn out dearer than the dearest before it.
    assert monitor.used < 0.3
    assert monitor.events, "a fifth of a second is enough for a look's first part"


def test_what_a_monitor_is_given_is_refused_in_one_line():
    model = network()
    with bad("names"):
        Monitor(problem(model), names="no such")
    with bad("SummaryWriter"):
        Monitor(problem(model), log=3)
    with bad("no tensor"):
        Monitor(problem(model), every=1)(nn.Linear(2, 2))


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


def test_an_event_becomes_json_and_comes_back():
    event = trained(sgd(), everything, 1).events[0]
    assert Event.from_json(event.to_json()) == event
