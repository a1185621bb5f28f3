"""Seconds of candidates that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

ROUNDS = 7


def take_turns(candidates: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of every candidate, one warm-up each, then ``rounds`` rounds in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in tqdm(range(rounds), desc="rounds", disable=None, leave=False):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def timed(run: Callable[[], object]) -> tuple[float, object]:
    """Seconds of one call, and what it returns."""
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def shares(run: Callable[[], object], count: int = 6) -> dict[str, float]:
    """What share of the processor's time the costliest kernels take; the rest summed."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(5):
            run()
    times = {e.key.removeprefix("aten::"): e.self_cpu_time_total for e in profile.key_averages()}
    total, first = sum(times.values()), sorted(times, key=lambda k: -times[k])[:count]
    return {k: times[k] / total for k in first} | {"rest": 1 - sum(times[k] for k in first) / total}
