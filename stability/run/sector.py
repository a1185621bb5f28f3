"""One sector of R^aug, solved here or by a worker, and how it is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stability import results
from stability.base.cluster import digest, pack, remember, unpack
from stability.base.errors import BadInput
from stability.base.identity import text_digest
from stability.base.storage import Checkpoint, only
from stability.curvature.at import At
from stability.eigen.spectrum import Solution
from stability.groups import Irrep
from stability.run import solve
from stability.run.settings import Settings
from stability.spectra import sectors
from stability.tasks.recipe import Recipe, Source, problem_of

# Of unit vectors that are read again: what is beyond is no rounding, in whatever precision they were made.
ORTHONORMAL = 1e-3


@dataclass(frozen=True)
class SolvedSector:
    """B_λ solved, before anything is known of the other sectors.

    Attributes:
        solution: its spectrum, counted in M_λ.
        hvps: nominal products taken.
        mismatch, off: of one product against another route, see :func:`stability.spectra.sectors.compare`.
    """

    solution: Solution
    hvps: int
    mismatch: float | None
    off: float | None

    def packed(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """As tensors and texts, for a file or a message."""
        tensors = {"values": self.solution.values, "vectors": self.solution.vectors}
        texts = {"spectrum": results.to_json(self.solution.spectrum), "hvps": str(self.hvps)}
        return tensors, {**texts, "mismatch": json.dumps((self.mismatch, self.off))}

    @staticmethod
    def unpacked(tensors: dict[str, Tensor], metadata: dict[str, str]) -> SolvedSector:
        """The inverse of :meth:`packed`.

        Raises:
            BadInput: something else is stored there.
        """
        try:
            solution = Solution(results.spectrum_from_json(metadata["spectrum"]), tensors["values"], tensors["vectors"])
            return SolvedSector(solution, int(metadata["hvps"]), *json.loads(metadata["mismatch"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"a stored sector cannot be read ({error!r})") from error

    @staticmethod
    def stored(tensors: dict[str, Tensor], metadata: dict[str, str], size: int, like: Tensor) -> SolvedSector:
        """The inverse of :meth:`packed` for a file, whose shapes, dtypes and numbers are those of a sector.

        Raises:
            BadInput: they are not.
        """
        found = SolvedSector.unpacked(tensors, metadata)
        count = len(tensors["values"])
        values = only(tensors["values"], (count,), like, "values")
        vectors = only(tensors["vectors"], (count, size), like, "vectors")
        overlap = vectors @ vectors.mT - torch.eye(count, dtype=vectors.dtype, device=vectors.device)
        if not 1 <= count <= size or float(overlap.abs().max()) > ORTHONORMAL:
            raise BadInput(f"{count} vectors of {size} numbers are not orthonormal")
        return replace(found, solution=Solution(found.solution.spectrum, values, vectors))


def sector_file(name: str) -> str:
    """A file name for an irrep: its letters to be recognised by, a digest since q=(1,1) and q=(1,-1) share them."""
    letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return f"sector-{letters[:40]}-{text_digest(name.encode())[:8]}"


def run_file(name: str) -> str:
    """Where the Krylov run of an irrep is kept."""
    return f"{sector_file(name)}-run"


def solve_sector(
    at: At,
    irrep: Irrep,
    size: int,
    floor: float,
    settings: Settings,
    number: int,
    checkpoint: Checkpoint,
    block: solve.Block | None = None,
) -> SolvedSector:
    """The spectrum of one B_λ, one of its products compared with another route.

    Args:
        at: the problem at its point.
        irrep, size: λ and dim_R M_λ.
        floor: least error granted.
        settings: of the run.
        number: of the sector; of a large network only some are compared.
        checkpoint: where a long Lanczos run is kept.
        block: θ, in either precision, ↦ B_λ; by default the work of this process.
    """
    problem, theta = at.problem, at.theta
    operator = block(theta) if block else at.block(irrep)
    if at.dense is not None:
        operator.scale = sectors.curvature_scale(problem, theta, settings.seed)
    name = run_file(irrep.name)
    solution = solve.sector(at, irrep, operator, size, name, floor, settings, checkpoint, block)
    compared = None
    if at.dense is not None or number % settings.limits.check_every == 1:
        compared = sectors.compare(problem, theta, irrep, operator, settings.seed)
    mismatch, off = compared or (None, None)
    return SolvedSector(solution, int(operator.products * operator.cost), mismatch, off)


def sector_job(
    source: Source, theta: bytes, name: str, size: int, floor: float, settings: Settings, number: int
) -> bytes:
    """Inside a worker: one sector, with what every sector at this point shares made once a process."""
    problem, point = problem_of(source), unpack(theta)[0]["theta"]
    point = point.to(problem.samples.x)
    named = source if isinstance(source, Recipe) else id(source)
    shared = remember(("at", named, digest(point)), lambda: At(problem, point, settings.limits, settings.memory_gb))
    irrep = sectors.by_name(problem.group, name)
    none = Checkpoint(None, {}, False)
    tensors, metadata = solve_sector(shared, irrep, size, floor, settings, number, none).packed()
    return pack(tensors, **metadata)
