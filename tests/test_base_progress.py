"""A terminal sees what runs, and no trace of it afterwards; a file sees nothing."""

from __future__ import annotations

import io
import sys

import pytest

from stability.base.progress import stage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_the_stage_and_its_line_is_cleared(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with stage("spectrum on E"):
        assert "spectrum on E … " in terminal.getvalue()
    assert not terminal.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip()


def test_a_file_sees_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    with stage("spectrum on E"):
        pass
    assert file.getvalue() == ""


def test_an_error_inside_leaves_the_terminal_clear_and_goes_on_up(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with pytest.raises(KeyboardInterrupt), stage("spectrum on E"):
        raise KeyboardInterrupt
    assert not terminal.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip()
