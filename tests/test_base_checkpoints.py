"""A user's checkpoint: tensors are found under whatever a training script put before their names; nothing is run."""

from __future__ import annotations

import pickle

import pytest
import torch
from brute import bad

from stability.base.checkpoints import load_weights, matching, unwrapped

W = {"conv.weight": torch.ones(2), "conv.bias": torch.zeros(1)}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("holder", [None, "state_dict", "model"])
def test_wrappers_and_holders_are_taken_off(prefix, holder):
    named = {prefix + name: value for name, value in W.items()}
    found = unwrapped(named if holder is None else {"epoch": 3, holder: named})
    assert found.keys() == W.keys() and all(torch.equal(found[name], W[name]) for name in W)


def test_a_prefix_that_only_some_names_have_is_part_of_the_names():
    assert set(unwrapped({"module.a": torch.ones(1), "b": torch.ones(1)})) == {"module.a", "b"}


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_that_would_run_code_is_refused_and_has_run_none(tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"w": torch.ones(1), "hook": Trap(str(trap))}, tmp_path / "model.pt")
    with bad("would run code; store model.state_dict"):
        load_weights(tmp_path / "model.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Trap(str(trap)), protocol=2))
    with bad("checkpoint: plain.pkl holds more than tensors"):
        load_weights(tmp_path / "plain.pkl")
    assert not trap.exists()


def test_what_is_stored_is_read_back_bit_for_bit(tmp_path):
    torch.save({"state_dict": {f"module.{name}": value for name, value in W.items()}}, tmp_path / "model.pt")
    found = load_weights(tmp_path / "model.pt")
    assert found.keys() == W.keys() and all(torch.equal(found[name], W[name]) for name in W)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no checkpoint", "is no file of torch.save"), (b"PK\x03\x04 cut short", "cannot be read")],
)
def test_other_files_are_told_from_damaged_ones(content, said, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with bad(said):
        load_weights(tmp_path / "model.pt")


def test_the_prefix_under_which_most_wanted_names_lie_is_taken_off_and_a_tie_is_refused():
    state = {"teacher.a": 1, "student.a": 2, "student.b": 3}
    assert matching(state, {"a", "b"}) == {"teacher.a": 1, "a": 2, "b": 3}
    assert matching({"a": 1, "student.b": 3}, {"a", "b"}) == {"a": 1, "student.b": 3}
    with bad("occur 1 times each under student., teacher."):
        matching({"teacher.a": 1, "student.a": 2}, {"a"})
