"""Independent work on one process, on several, or on many machines: the same numbers within rounding.

Points, sectors, frequencies, seeds, whole runs and the sample shards of one product do not wait for each other. A
:class:`Pool` runs such jobs and hands results back as they come; :class:`Serial` does it here, :class:`Cluster` by
Dask, on a local cluster of processes or on whatever serves a scheduler's address (docs/cluster.md).

Workers are sent a :class:`Recipe`, by which each builds the problem once, coordinates and names, never a program.
Dask itself pickles what it sends between its processes, so whoever may speak to a scheduler may run code. Processes
started here speak TLS with a certificate that only they hold and that lives as long as they do; a scheduler elsewhere
belongs behind TLS too. Nothing that is written to a file or read from one is ever pickled.

>>> with pool() as here:
...     sorted(here.run(divmod, [(7, 2), (9, 4)], "dividing"))
[(0, (3, 1)), (1, (2, 1))]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from safetensors.torch import load, save
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from stability.base.errors import BadInput, say
from stability.version import __version__

# How often one job may be tried: a job that has taken this many workers with it is to blame, not they.
TRIES = 4
CONNECT_SECONDS = 20
HUGE_PAGES = "glibc.malloc.hugetlb=1"
# Problems and linearised products that a worker keeps.
KEPT = 8
# What the local cluster's web server would tell everyone on the machine, such as the workers' calls.
SILENT: dict[str, list] = {f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")}
# Addresses under which Dask neither encrypts nor asks who is there.
PLAIN = ("tcp", "ws", "ucx")


class Portable:
    """What is small enough to travel with every job, so that nothing is shared beforehand."""


_kept: OrderedDict[object, Any] = OrderedDict()


def remember(key: object, make: Callable[[], Any]) -> Any:
    """What ``make`` gave for this key, kept as long as it is among the last few used in this process."""
    if key not in _kept:
        _kept[key] = make()
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def pack(tensors: dict[str, Tensor], **metadata: str) -> bytes:
    """Tensors and texts in one message."""
    return save({k: v.detach().cpu().contiguous() for k, v in tensors.items()} | {"": _text(metadata)})


def unpack(message: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The inverse of :func:`pack`.

    >>> unpack(pack({"a": torch.ones(2)}, name="b"))
    ({'a': tensor([1., 1.])}, {'name': 'b'})
    """
    tensors = load(message)
    return tensors, json.loads(bytes(tensors.pop("").tolist()))


def _text(metadata: dict[str, str]) -> Tensor:
    return torch.tensor(list(json.dumps(metadata).encode()), dtype=torch.uint8)


class Pool:
    """Runs jobs that do not wait for each other.

    Attributes:
        workers: how many at a time.
    """

    workers = 1

    def memory_gb(self) -> float | None:
        """What a job may use; None where it shares this machine's memory with the others."""
        return None

    def share(self, thing: Any) -> Any:
        """A handle on what many jobs need, to be passed as an argument: it travels once a worker, not once a job."""
        return thing

    def run(
        self,
        function: Callable[..., Any],
        jobs: Sequence[tuple],
        what: str,
        weights: Sequence[float] | None = None,
        quiet: bool = False,
        settled: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """(number of the job, result), as results come.

        Args:
            function: importable by name.
            jobs: its arguments, one tuple a job.
            what: for the progress bar and messages.
            weights: estimates of work; heavy jobs begin first, so that no worker is left alone with one at the end.
            quiet: no progress bar.
            settled: job i goes to the worker that had job i before, as long as that lives: it keeps what it has made.

        Raises:
            BadInput: a job raised it, or was lost with its worker time and again.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give processes back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Serial(Pool):
    """This process, in order."""

    def run(
        self,
        function: Callable[..., Any],
        jobs: Sequence[tuple],
        what: str,
        weights: Sequence[float] | None = None,
        quiet: bool = False,
        settled: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """As in :class:`Pool`, one job after the other here; weights and ``settled`` change nothing."""
        for number, job in enumerate(tqdm(jobs, desc=what, disable=True if quiet else None, leave=False)):
            yield number, function(*job)


def _job(threads: int, function: Callable[..., Any], arguments: tuple) -> Any:
    """A job inside a worker, on its own number of threads."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    with threadpool_limits(threads):
        return function(*arguments)


def _tunables() -> str:
    """Settings of the C library under which arrays come in pages of 2 MiB: products beside each other wait less.

    Measured on two cores: processes that sweep sectors side by side lose 17 % to each other, and 6 to 10 % with these.
    """
    given = os.environ.get("GLIBC_TUNABLES")
    return f"{given}:{HUGE_PAGES}" if given else HUGE_PAGES


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The environment with these values: what a user exported, such as OMP_NUM_THREADS, goes before Dask's setting."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _security() -> Any:
    """A key and a certificate that exist in this process and those it starts, and nowhere else.

    Raises:
        BadInput: without the library that makes them.
    """
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError as error:
        raise BadInput(
            "--workers needs cryptography, so that nobody else on this machine can speak to them: "
            "pip install cryptography"
        ) from error


def unprotected(address: str) -> str:
    """What must be said of a scheduler's address; nothing where TLS keeps strangers out.

    >>> unprotected("tls://10.0.0.1:8786"), unprotected("10.0.0.1:8786").split(":")[0]
    ('', 'warning')
    """
    scheme = address.partition("://")[0] if "://" in address else "tcp"
    if scheme not in PLAIN:
        return ""
    return (
        f"warning: --scheduler {address}: the connection is neither encrypted nor authenticated, and whoever reaches "
        "that port can run code on its workers and here; use tls:// with certificates (docs/cluster.md)"
    )


def _versions() -> dict[str, str]:
    return {"stability": __version__, "torch": torch.__version__}


class Cluster(Pool):
    """Dask workers, of a scheduler's address or in processes of this machine.

    Args:
        address: of a scheduler, such as tls://10.0.0.1:8786; certificates are those of Dask's configuration
            (``distributed.comm.tls``). A plain one gets a warning on stderr.
        workers: processes to start here, instead of an address.
        threads: of each worker's arithmetic; started here, one, so that processes do not fight over cores.

    Raises:
        BadInput: Dask is not installed, nothing answers, or workers run other versions.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, threads: int | None = None) -> None:
        try:
            import dask
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise BadInput("--scheduler and --workers need Dask: pip install distributed cryptography") from error
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # one line for users; Dask's own are many
        self.local = None
        if address is None:
            threads = threads or 1
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            limits = dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE", "GLIBC_TUNABLES": _tunables()}
            # Dask's own profiler would look at every worker a hundred times a second.
            lean = {"distributed.nanny.pre-spawn-environ": limits, "distributed.worker.profile.enabled": False}
            with dask.config.set(lean | SILENT), _environment(limits):
                self.local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=None,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=_security(),
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
        elif unprotected(address):
            say(unprotected(address))
        try:
            self.client = Client(self.local or address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise BadInput(
                f"--scheduler {address!r}: nothing answers there ({str(error) or type(error).__name__}); give the "
                "address that dask scheduler printed, such as tls://10.0.0.1:8786, and for tls:// the certificates in "
                "Dask's configuration"
            ) from error
        except TypeError as error:  # how Dask says that it was given no certificate
            raise BadInput(
                f"--scheduler {address!r}: no certificates are known ({error}); set distributed.comm.tls in Dask's "
                "configuration, or DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY"
            ) from error
        self.fixed = threads
        try:
            self._check_versions()
        except BaseException:
            self.close()
            raise
        found = self._workers().values()
        self.workers = sum(w["nthreads"] for w in found)
        # A worker of several slots shares its cores among them.
        self.threads = threads or 1

    def _workers(self) -> dict:
        return self.client.scheduler_info(n_workers=-1)["workers"]

    def _check_versions(self) -> None:
        found = self.client.run(_versions)
        if not found:
            raise BadInput("--scheduler: no worker has joined it yet; start some with dask worker ADDRESS")
        for worker, versions in found.items():
            if versions != _versions():
                raise BadInput(
                    f"--scheduler: worker {worker} runs {versions}, this is {_versions()}; install the same everywhere"
                )

    def share(self, thing: Any) -> Any:
        """Sent to every worker once; what is portable already travels with each job, being small."""
        return thing if isinstance(thing, Portable) else self.client.scatter(thing, broadcast=True, hash=False)

    def run(
        self,
        function: Callable[..., Any],
        jobs: Sequence[tuple],
        what: str,
        weights: Sequence[float] | None = None,
        quiet: bool = False,
        settled: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """As in :class:`Pool`; a job whose worker is lost is tried again elsewhere."""
        from distributed import KilledWorker, as_completed

        order = sorted(range(len(jobs)), key=lambda i: 0 if weights is None else -weights[i])
        homes, futures = sorted(self._workers()) if settled else [], {}
        for rank, i in enumerate(order):
            key = f"{what}-{os.urandom(8).hex()}"
            home = {"workers": [homes[i % len(homes)]], "allow_other_workers": True} if homes else {}
            future = self.client.submit(
                _job, self.threads, function, jobs[i], pure=False, priority=-rank, key=key, **home
            )
            futures[future] = i
        title = f"{what}, {self.workers} workers"
        try:
            with tqdm(total=len(jobs), desc=title, disable=True if quiet else None, leave=False) as bar:
                for future in as_completed(list(futures)):
                    try:
                        result = future.result()
                    except KilledWorker as error:
                        raise BadInput(
                            f"{what}: job {futures[future] + 1} of {len(jobs)} was lost with its worker {TRIES} times; "
                            "it may need more memory than a worker has (--memory-gb, or fewer workers a machine)"
                        ) from error
                    yield futures[future], result
                    bar.update(1)
        finally:
            self.client.cancel(list(futures))

    def memory_gb(self) -> float | None:
        """Memory of the smallest worker slot of a scheduler; None where the workers are ours."""
        limits = [w["memory_limit"] / max(1, w["nthreads"]) for w in self._workers().values() if w["memory_limit"]]
        return None if self.local is not None or not limits else 0.8 * min(limits) / 1e9

    def close(self) -> None:
        """End the connection, and the workers that were started here."""
        with contextlib.suppress(Exception):
            self.client.close()
        if self.local is not None:
            with contextlib.suppress(Exception):
                self.local.close()


def pool(address: str | None = None, workers: int | None = None) -> Pool:
    """The pool that the options ask for: Dask at an address, ``workers`` processes here, or this process.

    Raises:
        BadInput: both were given.
    """
    if address is not None and workers is not None:
        raise BadInput("--scheduler and --workers exclude each other: a scheduler has its own workers")
    if address is None and (workers is None or workers == 0):
        return Serial()
    return Cluster(address, workers)


def digest(tensor: Tensor) -> str:
    """sha256 of the values, to name what belongs to a point."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
