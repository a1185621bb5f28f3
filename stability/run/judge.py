"""Is the point stable, and how surely? The verdicts, with the evidence that they rest on."""

from __future__ import annotations

from dataclasses import replace

from stability.base.progress import stage
from stability.curvature.at import At
from stability.networks import kinks
from stability.points.describe import PointReport
from stability.points.stationary import StationaryPoint
from stability.results import Verdicts
from stability.run import near as nearest
from stability.run.given import Given
from stability.run.spectra import Curved
from stability.verdicts import certificates, flat, identities
from stability.verdicts.verdict import Block, judge, proposition_3


def identities_hold(given: Given, at: At, scale: float) -> None:
    """Measure the paper's identities at the point and keep by how much each is missed."""
    names = identities.NAMES
    if at.dense is None:
        why = f"L has {at.problem.space.dim:,} dimensions; the identities need dense vectors of L"
        given.ledger.keep(identities={**dict.fromkeys(names), "reasons": dict.fromkeys(names, why)})
        return
    limits, moved = given.limits, at.problem.moves * len(given.like)
    most = limits.group if moved <= limits.moved_samples else 1
    with stage("identities"):
        measured = identities.measure(at.problem, at.theta, given.settings.seed, most, scale)
    given.ledger.keep(identities={**measured.errors, "reasons": measured.reasons})


def judged(given: Given, at: At, point: StationaryPoint, report: PointReport, curvature: Curved) -> Verdicts:
    """The four verdicts at the point: of R^eqv on E, of R^aug on L and on E⊥ alone, of R on L."""
    spectra = curvature.spectra
    on_e, on_perp = _null(at, curvature)
    slope = report.grad_norm["nominal"] or 0.0
    near = nearest.stationarity(given, at, point, curvature, on_e, slope)
    proven = near.kantorovich.shift if near.kantorovich else None
    all_e = near.shift_all if near.shift_all_E is None else near.shift_all_E
    e_aug = Block("E", spectra.aug_e.spectrum, on_e, near.shift_E, shift_all=all_e, proven_shift=proven)
    e_eqv = replace(e_aug, spectrum=spectra.eqv.spectrum)
    across_e = Block("E⊥", spectra.across.spectrum, on_perp, missing=spectra.across.spectrum.method)
    perp = replace(across_e, newton_shift=near.shift_E_perp, shift_all=near.shift_all, proven_shift=proven)
    of_r = nearest.nominal_point(given, at, report, curvature)
    whole = Block("L", spectra.nominal.spectrum, on_e + on_perp, of_r.shift, shift_all=of_r.shift_all)
    rough = kinks.said(curvature.kink) if curvature.kink else ""
    kink, doubt = report.kink_margin, rough or nearest.no_point(near)
    eqv = judge([e_eqv], report.grad_norm["eqv"], point.tolerance, kink, doubt)
    # At a point of E it is ∇R^eqv (Prop. 1): what it has beyond is the rounding of sums on L.
    small = max(point.tolerance, nearest.rounding_on_l(at, certificates.norm(spectra.nominal.spectrum), slope))
    aug = judge([e_aug, perp], report.grad_norm["aug"], small, kink, doubt)
    nominal = judge([whole], report.grad_norm["nominal"], point.tolerance, kink, rough or of_r.doubt)
    # The block on E⊥ alone is a statement about A itself: no Newton step enters.
    across = judge([across_e], kink_margin=kink, doubt=rough)
    lowest, highest = spectra.across.spectrum.smallest, spectra.across.spectrum.largest
    top = spectra.eqv.spectrum.largest
    found = Verdicts(
        eqv=eqv,
        aug=aug,
        nominal=nominal,
        transverse=across,
        proposition_3=proposition_3(nominal, aug, eqv),
        critical_penalty=max(0.0, -lowest.value) if lowest else None,
        growth_rate=max(0.0, -lowest.value) if lowest else None,
        critical_step={
            "E": 2 / top.value if top and top.value > 0 else None,
            "E_perp": 2 / highest.value if highest and highest.value > 0 else None,
        },
    )
    size = curvature.kink.size if curvature.kink else None
    evidence = certificates.Certificate(dict(curvature.budgets), near, size)
    given.ledger.keep(certificate=evidence, verdict=found)
    return found


def _null(at: At, curvature: Curved) -> tuple[int, int]:
    """Dimensions of what is known to be null, in E and in E⊥."""
    on_e, on_perp = flat.count(curvature.flat.families, at.problem.space)
    if at.problem.weight_decay > 0:  # then a flat family has eigenvalue μ, not zero; exchanges stay null
        on_e = on_perp = 0
    traded = curvature.flat.exchanged(at.problem.space)
    return on_e + traded[0], on_perp + traded[1]
