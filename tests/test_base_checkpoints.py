"""Every usual form of a checkpoint is the weights it holds, or is refused with a mend that works; no code runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import json
import os
import pathlib
import random
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

import brute
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import stability
from stability.base.checkpoints import load_weights
from stability.base.states import flattened, peeled
from stability.groups import Cyclic, PermutationRepresentation, trivial

SWAP = PermutationRepresentation(Cyclic(2), 4, lambda g: [0, 1, 2, 3] if g == 0 else [1, 0, 3, 2], "swap")
X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def network(seed: int = 1) -> nn.Sequential:
    """Two layers with batch norm between them, so that there are buffers, one of them an integer."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    made(torch.randn(8, 4))  # running statistics of its own
    return made.eval()


TRAINED, OTHER = network(1), network(2)
STATE, RIVAL = TRAINED.state_dict(), OTHER.state_dict()


@pytest.fixture(scope="module")
def problem() -> stability.Problem:
    one = trivial(Cyclic(2))
    spec = {"0": (SWAP, SWAP), "1": SWAP, "3": (SWAP, 3 * one)}
    return stability.from_module(network(3), nn.CrossEntropyLoss(), (X, Y), spec)


def is_trained(problem: stability.Problem, point: object) -> bool:
    """Whether a point is the trained network's weights, and its statistics after their projection."""
    found, expected = stability.weights(problem, point), stability.weights(problem, dict(STATE))
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)


def prefixed(prefix: str, state=STATE) -> dict:
    return {f"{prefix}{k}": v for k, v in state.items()}


class Wrapper(nn.Module):
    """A module that holds another under a name of its own."""

    def __init__(self, name: str, inside: nn.Module) -> None:
        super().__init__()
        self.add_module(name, inside)
        self.inside = name

    def forward(self, x):
        return getattr(self, self.inside)(x)


class Lightning(nn.Module):
    """What a LightningModule looks like from outside: a network, a loss with weights, a metric with counters."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = net, nn.CrossEntropyLoss(weight=torch.ones(3))
        self.register_buffer("seen", torch.tensor(7))


class Attributes(dict):
    """A dict with attributes, as lightning keeps hyperparameters."""


class Mode(enum.Enum):
    FAST = 1


@dataclass
class Configuration:
    width: int = 4
    sizes: list[int] = field(default_factory=lambda: [1, 2])


Options = collections.namedtuple("Options", "rate decay")


def lightning(state: dict | None = None) -> dict:
    """A checkpoint as lightning's Trainer writes it."""
    return {
        "epoch": 3,
        "global_step": 300,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": prefixed("model.") if state is None else state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [adam()],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "kwargs",
        "hyper_parameters": Attributes(lr=1e-3, width=4),
    }


def adam() -> dict:
    """The state of an optimiser that has made a step."""
    net = network(4)
    optimiser = torch.optim.AdamW(net.parameters())
    nn.functional.cross_entropy(net(X), Y).backward()
    optimiser.step()
    return optimiser.state_dict()


def averaged() -> torch.optim.swa_utils.AveragedModel:
    return torch.optim.swa_utils.AveragedModel(TRAINED, use_buffers=True)


# -- in memory ----------------------------------------------------------------------------------------------------

MEMORY: dict[str, Callable[[], object]] = {
    "state_dict": lambda: STATE,
    "plain dict": lambda: dict(STATE),
    "OrderedDict, doubles": lambda: collections.OrderedDict((k, v.to(torch.float64)) for k, v in STATE.items()),
    "module": lambda: TRAINED,
    "module.": lambda: prefixed("module."),
    "_orig_mod.": lambda: prefixed("_orig_mod."),
    "model.": lambda: prefixed("model."),
    "net.": lambda: prefixed("net."),
    "any one prefix": lambda: prefixed("student.backbone.trunk."),
    "module._orig_mod.": lambda: prefixed("module._orig_mod."),
    "FSDP's names inside": lambda: prefixed("_fsdp_wrapped_module.", inside("_fsdp_wrapped_module")),
    "recomputed parts": lambda: inside("_checkpoint_wrapped_module"),
    "DataParallel": lambda: nn.DataParallel(TRAINED),
    "torch.compile": lambda: torch.compile(TRAINED),
    "a compiled part": lambda: Wrapper("net", torch.compile(TRAINED)),
    "AveragedModel": averaged,
    "AveragedModel's state": lambda: averaged().state_dict(),
    "LightningModule": lambda: Lightning(TRAINED),
    "LightningModule's state": lambda: Lightning(TRAINED).state_dict(),
    "two names of one module": lambda: {**prefixed("net."), **prefixed("model.")},
    "nested": lambda: {"epoch": 3, "model_state": STATE},
    "nested deep": lambda: {"trainer": {"run": {"generator": STATE}}},
    "a module in a dict": lambda: {"model": TRAINED, "epoch": 3},
    "parts of a module apart": lambda: {name: TRAINED[int(name)].state_dict() for name in "013"},
    "generator and discriminator": lambda: {"generator": STATE, "discriminator": nn.Linear(4, 1).state_dict()},
    "two networks of other shapes": lambda: {"large": network_of(8).state_dict(), "small": STATE},
    "numpy arrays": lambda: {k: v.numpy() for k, v in STATE.items()},
    "beside an optimiser": lambda: {"model": STATE, "optimizer": adam(), "args": argparse.Namespace(lr=1e-3)},
}  # fmt: skip


def inside(wrapper: str) -> dict:
    """Names as they are where a part of the network is wrapped, not all of it."""
    return {k.replace(".", f".{wrapper}.", 1): v for k, v in STATE.items()}


def network_of(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 3))


@pytest.mark.parametrize("form", MEMORY)
def test_weights_in_memory_are_found_in_every_form(form, problem):
    assert is_trained(problem, MEMORY[form]())


# -- files --------------------------------------------------------------------------------------------------------


def saved(held: object, **options: object) -> Callable[[pathlib.Path], pathlib.Path]:
    def write(folder: pathlib.Path) -> pathlib.Path:
        torch.save(held, folder / "run.pt", **options)
        return folder / "run.pt"

    return write


def tensors(held: dict) -> Callable[[pathlib.Path], pathlib.Path]:
    def write(folder: pathlib.Path) -> pathlib.Path:
        save_file({k: v.contiguous() for k, v in held.items()}, folder / "model.safetensors")
        return folder / "model.safetensors"

    return write


def shards(kind: str, whole: bool) -> Callable[[pathlib.Path], pathlib.Path]:
    """A folder of transformers with an index and two shards."""

    def write(folder: pathlib.Path) -> pathlib.Path:
        stem = "model" if kind == "safetensors" else "pytorch_model"
        names, index = list(STATE), {}
        for number, part in enumerate((names[:3], names[3:]), 1):
            file, held = f"{stem}-{number:05d}-of-00002.{kind}", {k: STATE[k] for k in part}
            save_file(held, folder / file) if kind == "safetensors" else torch.save(held, folder / file)
            index |= dict.fromkeys(part, file)
        told = {"metadata": {"total_size": 1}, "weight_map": index}
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(told))
        (folder / "config.json").write_text("{}")
        return folder if whole else folder / f"{stem}.{kind}.index.json"

    return write


def trainers(folder: pathlib.Path) -> pathlib.Path:
    """A checkpoint folder of transformers' Trainer."""
    tensors(STATE)(folder)
    torch.save(adam(), folder / "optimizer.pt")
    torch.save({"python": 1}, folder / "rng_state.pth")
    torch.save(argparse.Namespace(lr=1e-3), folder / "training_args.bin")
    return folder


def arrays(folder: pathlib.Path) -> pathlib.Path:
    np.savez(folder / "weights.npz", **{k: v.numpy() for k, v in STATE.items()})
    return folder / "weights.npz"


def beside(**more: object) -> Callable[[pathlib.Path], pathlib.Path]:
    return saved({"state_dict": STATE, **more})


OLDER = {"_use_new_zipfile_serialization": False}
NUMBERS = {"best": np.float64(0.9), "step": np.int64(3), "history": np.arange(4.0), "rng": np.random.get_state()}
FILES: dict[str, Callable[[pathlib.Path], pathlib.Path]] = {
    "state_dict": saved(STATE),
    "the older format": saved(STATE, **OLDER),
    "the older format with a Namespace": saved({"model": STATE, "args": argparse.Namespace(a=1)}, **OLDER),
    "state_dict one level down": saved({"epoch": 3, "state_dict": STATE}),
    "model_state_dict": saved({"model_state_dict": STATE, "optimizer_state_dict": adam(), "loss": torch.tensor(0.1)}),
    "ema alone": saved({"ema": STATE, "step": 3}),
    "state_dict_ema beside an optimiser": saved({"state_dict_ema": STATE, "optimizer": adam()}),
    "a list of states": saved({"models": [nn.Linear(4, 1).state_dict(), STATE]}),
    "lightning": saved(lightning()),
    "lightning of a wrapper": saved(lightning(prefixed("model.module._orig_mod."))),
    "AveragedModel": saved(averaged().state_dict()),
    "Namespace": beside(args=argparse.Namespace(lr=1e-3, path=pathlib.Path("x"), mode=Mode.FAST)),
    "SimpleNamespace": beside(config=types.SimpleNamespace(lr=1e-3, inner=types.SimpleNamespace(a=1))),
    "numpy scalars and arrays": beside(**NUMBERS),
    "numpy of objects": beside(history=np.array([{"a": 1}, None], dtype=object)),
    "python's random state": beside(rng=random.getstate(), torch_rng=torch.get_rng_state()),
    "Counter and OrderedDict": beside(seen=collections.Counter("aab"), sizes=collections.OrderedDict(a=1)),
    "defaultdict": beside(log=collections.defaultdict(list, loss=[0.3])),
    "paths and dates": beside(path=pathlib.Path("a/b"), date=datetime.datetime(2024, 1, 1)),
    "sets, ranges, slices": beside(kinds={1, 2}, span=range(3), part=slice(1, 2)),
    "enumerations and classes": beside(mode=Mode.FAST, kind=nn.Linear, function=torch.nn.functional.relu),
    "a dataclass": beside(config=Configuration()),
    "a namedtuple": beside(config=Options(1e-3, 0.0)),
    "a dict of its own class": beside(config=Attributes(lr=1e-3)),
    "an optimiser itself": beside(optimiser=torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)),
    "dtype, device, size": beside(dtype=torch.float32, device=torch.device("cpu"), size=torch.Size([1, 2])),
    "the whole module": saved(TRAINED),
    "the whole module in a dict": saved({"epoch": 3, "model": TRAINED}),
    "a whole wrapped module": saved(nn.DataParallel(TRAINED)),
    "doubles": saved({k: v.to(torch.float64) for k, v in STATE.items()}),
    "safetensors": tensors(STATE),
    "safetensors, prefixed": tensors(prefixed("model.")),
    "sharded safetensors, index": shards("safetensors", False),
    "sharded safetensors, folder": shards("safetensors", True),
    "sharded bin, folder": shards("bin", True),
    "a trainer's folder": trainers,
    "npz": arrays,
}  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_a_file_of_every_usual_form_is_its_weights(form, problem, tmp_path):
    path = FILES[form](tmp_path)
    assert is_trained(problem, path) and is_trained(problem, str(path))
    if "list" not in form and "generator" not in form:
        assert is_trained(problem, load_weights(path))


# -- the user chooses ---------------------------------------------------------------------------------------------

PAIRS = {
    "model and ema": {"model": RIVAL, "ema": STATE},
    "state_dict and state_dict_ema": {"state_dict": RIVAL, "state_dict_ema": STATE},
    "the top and ema": {**RIVAL, "ema": STATE},
    "two networks of a GAN": {"discriminator": prefixed("module.", RIVAL), "ema": prefixed("module.")},
    "a list": {"runs": [RIVAL, STATE]},
}


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_states_that_fit_the_user_chooses_by_name(name, problem, tmp_path):
    held, chosen = PAIRS[name], "runs.1" if name == "a list" else list(PAIRS[name])[-1]
    path = saved(held)(tmp_path)
    for ask in (lambda: stability.weights(problem, path), lambda: stability.weights(problem, held)):
        with brute.bad(f"occur 9 times each under .*{chosen}.*give the one that is meant"):
            ask()
    with brute.bad(f"2 states.*{chosen}"):
        load_weights(path)
    assert is_trained(problem, load_weights(path, chosen))
    assert is_trained(problem, f"{path}:{chosen}")
    with brute.bad("no states are called 'emma'; give one of"):
        load_weights(path, "emma")
    if name == "the top and ema":
        top = load_weights(path, ".")
        assert all(torch.equal(top[k], RIVAL[k]) for k in RIVAL)


def test_two_equal_states_need_no_choice(problem, tmp_path):
    assert is_trained(problem, saved({"model": STATE, "ema": prefixed("module.")})(tmp_path))


# -- what only code would open, and what is no checkpoint ---------------------------------------------------------


def scripted(folder: pathlib.Path) -> pathlib.Path:
    torch.jit.trace(TRAINED, X).save(folder / "net.pt")
    return folder / "net.pt"


def exported(folder: pathlib.Path) -> pathlib.Path:
    with zipfile.ZipFile(folder / "net.pt2", "w") as archive:
        archive.writestr("net/models/model.json", "{}")
    return folder / "net.pt2"


def distributed(folder: pathlib.Path) -> pathlib.Path:
    import torch.distributed.checkpoint as dcp

    dcp.save(dict(STATE), checkpoint_id=str(folder / "sharded"))
    return folder / "sharded"


def of_bytes(name: str, content: bytes) -> Callable[[pathlib.Path], pathlib.Path]:
    def write(folder: pathlib.Path) -> pathlib.Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def cut(folder: pathlib.Path) -> pathlib.Path:
    path = saved(STATE)(folder)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def lacking(folder: pathlib.Path) -> pathlib.Path:
    shards("safetensors", True)(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    return folder


def several(folder: pathlib.Path) -> pathlib.Path:
    for name in ("last.ckpt", "epoch=3.ckpt"):
        torch.save(STATE, folder / name)
    return folder


def empty(folder: pathlib.Path) -> pathlib.Path:
    return folder


def deepspeed(folder: pathlib.Path) -> pathlib.Path:
    (folder / "zero_to_fp32.py").write_text("")
    return folder


REFUSED: dict[str, tuple[Callable[[pathlib.Path], pathlib.Path], str]] = {
    "TorchScript": (scripted, r"TorchScript program.*torch.jit.load\(path\).state_dict\(\)"),
    "torch.export": (exported, "archive of another kind"),
    "distributed": (distributed, "dcp_to_torch_save"),
    "DeepSpeed": (deepspeed, "zero_to_fp32.py"),
    "Git LFS": (of_bytes("a.pt", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "HDF5": (of_bytes("a.h5", b"\x89HDF\r\n\x1a\n"), "an HDF5 file"),
    "GGUF": (of_bytes("a.gguf", b"GGUF\x03"), "quantised"),
    "gzip": (of_bytes("a.pt.gz", b"\x1f\x8b\x08"), "gunzip"),
    "noise": (of_bytes("a.pt", b"nothing"), "no file of torch.save or safetensors"),
    "nothing": (of_bytes("a.pt", b""), "is empty"),
    "cut off": (cut, "cannot be read"),
    "a shard is missing": (lacking, "names model-00002-of-00002.safetensors, which is not beside it"),
    "several in a folder": (several, "epoch=3.ckpt, last.ckpt; give the path"),
    "an empty folder": (empty, "has no file of weights"),
    "no tensors": (saved({"epoch": 3}), "holds no tensors"),
    "weights without names": (saved({"shadow_params": list(STATE.values())}), "no tensors by name"),
    "json that is no index": (of_bytes("config.json", b"{}"), "no index of shards"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:torch.distributed")
@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_checkpoint_is_told_in_one_line(form, problem, tmp_path):
    write, message = REFUSED[form]
    path = write(tmp_path)
    with brute.bad(message):
        load_weights(path)
    if form != "weights without names":
        with pytest.raises(stability.BadInput):
            stability.weights(problem, path)


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:torch.distributed")
def test_the_mends_that_are_told_work(problem, tmp_path):
    torch.save(torch.jit.load(scripted(tmp_path)).state_dict(), tmp_path / "a.pt")
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(distributed(tmp_path), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        assert is_trained(problem, tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["weights", "state_dict", "beside"])
def test_no_code_of_a_file_runs(where, legacy, tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    class Sly:
        def __reduce__(self):
            return (eval, (f"__import__('os').mkdir({str(ran)!r})",))

    class Foreign:
        def __reduce__(self):
            return (pathlib.Path(str(ran)).mkdir, ())

    for thing in (Evil(), Sly(), Foreign()):
        held = {"state_dict": STATE, "beside": thing} if where == "beside" else {where: thing}
        torch.save(held, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
        try:
            found = load_weights(tmp_path / "evil.pt")
            assert where == "beside" and found.keys() == STATE.keys()
        except stability.BadInput as error:
            assert "\n" not in str(error) and "store model.state_dict()" in str(error)
        assert not ran.exists()


def test_a_class_that_is_not_installed_is_never_looked_for(tmp_path):
    module = types.ModuleType("not_here")
    exec("class Settings:\n    def __init__(self): self.a = 1", module.__dict__)
    module.Settings.__module__, sys.modules["not_here"] = "not_here", module
    torch.save({"model": STATE, "settings": module.Settings()}, tmp_path / "a.pt")
    del sys.modules["not_here"]
    assert load_weights(tmp_path / "a.pt").keys() == STATE.keys()
    assert "not_here" not in sys.modules


# -- wrapped modules are taken as what they wrap ------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, torch.optim.swa_utils.AveragedModel])
def test_a_wrapped_module_is_the_problem_of_what_it_wraps(wrap, problem):
    one = trivial(Cyclic(2))
    spec = {"0": (SWAP, SWAP), "1": SWAP, "3": (SWAP, 3 * one)}
    plain = stability.from_module(TRAINED, nn.CrossEntropyLoss(), (X, Y), spec)
    assert peeled(wrap(TRAINED)).state_dict().keys() == STATE.keys()
    taken = stability.from_module(wrap(TRAINED), nn.CrossEntropyLoss(), (X, Y), spec)
    assert [layer.name for layer in taken.space.layers] == [layer.name for layer in plain.space.layers]
    assert float(taken.risk(taken.model.given)) == float(plain.risk(plain.model.given))
    assert is_trained(taken, wrap(TRAINED))


def test_a_checkpoint_that_holds_itself_is_walked_once():
    held = {"model": dict(STATE)}
    held["again"] = [held]
    assert set(flattened(held)) == {f"model.{name}" for name in STATE}
