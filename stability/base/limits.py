"""How far a run goes: up to which size it is dense, how many steps and products it may take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from stability.base import doors


@dataclass(frozen=True)
class Limits:
    """The sizes at which one way of computing gives way to another; what is found on either side is the same.

    Attributes:
        vectors: weights of a perceptron up to which dense vectors of L are made; beyond, E and its sectors only.
        dense: dimension of L, or of a sector, up to which the Hessian is made as a matrix and solved whole.
        dense_e: the same for E.
        inverse_e, inverse_l: dim E and dim L up to which the way to the stationary point of R^eqv, and of R, is
            taken with the inverse of the whole Hessian instead of MINRES.
        search_dense, search_finish: dim E up to which a search takes Newton steps with the whole Hessian, and up to
            which it does so once Krylov steps have stalled.
        search_single: dim E beyond which products that only steer a search are in float32.
        saddles: dim E up to which saddles are searched for.
        pair_bytes: of the pairs of vectors that L-BFGS remembers.
        group: elements of G, or nodes of a quadrature, up to which averages are taken one by one.
        moved_samples: moved samples up to which R^aug is computed from them.
        lanczos_steps, sector_steps: of a Krylov run on L or E, and in a sector.
        spectrum_seconds: what a Krylov run of the average over G may take.
        single: sectors of a perceptron beyond this dimension are searched in float32, quotients taken in float64.
        single_ends: eigenvalues wanted at the lower and at the upper end there.
        newton_products: of a MINRES step.
        residual_products: nominal products that the residuals of one sector may take.
        check_every: of a large perceptron one sector in so many is compared with another route.
        mode_numbers: numbers of all partners of a mode up to which they are kept.
        watched: epochs of training after which λ_min is recorded.
        watched_work: samples × weights × products that this may take.
        other_points: stationary points whose λ_min is found beside that of the first.
        probed: sectors whose lowest vector is probed for kinks, those with the lowest first.
        escape_work: moved samples × weights up to which the way down from an unstable point is followed.
    """

    vectors: int = 5_000_000
    dense: int = 8000
    dense_e: int = 8000
    inverse_e: int = 2500
    inverse_l: int = 1000
    search_dense: int = 2500
    search_finish: int = 8000
    search_single: int = 20_000
    saddles: int = 400
    pair_bytes: float = 2e9
    group: int = 5040
    moved_samples: int = 2_000_000
    lanczos_steps: int = 400
    sector_steps: int = 150
    spectrum_seconds: float = 3600.0
    single: int = 20_000
    single_ends: tuple[int, int] = (3, 1)
    newton_products: int = 300
    residual_products: int = 200
    check_every: int = 8
    mode_numbers: int = 10_000_000
    watched: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 35)
    watched_work: float = 3e11
    other_points: int = 6
    probed: int = 24
    escape_work: float = 1e9

    def __post_init__(self) -> None:
        """Raise BadInput for a number that no run could use."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                doors.number(f"limits: {field.name}", number)
