"""Import paths of before the rooms: each stands for the module that took its place, for one release.

``from stability.storage import write`` keeps working as ``from stability.base.storage import write`` does. What has
become a package of the same name (``stability.curvature``, ``stability.networks``, …) hands its names on itself.
"""

import importlib
import sys

import stability.report
import stability.spectrum  # noqa: F401 - loaded before the stages of their names, which then stay functions

PATHS = {
    "admission": "networks.admission",
    "analysis": "run.analysis",
    "assembly": "curvature.assembly",
    "assumptions": "problem.assumptions",
    "breaking": "effects.breaking",
    "certificates": "verdicts.certificates",
    "checkpoints": "base.checkpoints",
    "cluster": "base.cluster",
    "data": "tasks.data",
    "declared": "networks.declared",
    "density": "spectra.density",
    "deviation": "effects.deviation",
    "diagnosis": "api.diagnosis",
    "doors": "base.doors",
    "errors": "base.errors",
    "fixed": "effects.fixed",
    "flat": "verdicts.flat",
    "flow": "effects.flow",
    "gathering": "networks.gathering",
    "held": "problem.held",
    "identities": "verdicts.identities",
    "identity": "problem.identity",
    "kinks": "networks.kinks",
    "krylov": "eigen.krylov",
    "least": "spectra.least",
    "linearised": "curvature.linearised",
    "memory": "base.memory",
    "modes": "effects.modes",
    "modulemodel": "networks.modulemodel",
    "modules": "networks.modules",
    "nearby": "verdicts.nearby",
    "once": "base.once",
    "persample": "networks.persample",
    "pictures": "effects.pictures",
    "pooled": "curvature.pooled",
    "products": "curvature.products",
    "record": "base.record",
    "schema": "base.schema",
    "sectors": "spectra.sectors",
    "shards": "spectra.shards",
    "slices": "effects.slices",
    "stationary": "points.stationary",
    "storage": "base.storage",
    "training": "points.training",
    "trajectory": "api.trajectory",
    "trees": "networks.bare",
    "verdict": "verdicts.verdict",
    "weightnorm": "networks.weightnorm",
    "written": "curvature.written",
}

_package = sys.modules["stability"]
for _old, _new in PATHS.items():
    _module = importlib.import_module(f"stability.{_new}")
    sys.modules[f"stability.{_old}"] = _module
    setattr(_package, _old, _module)

# Names that left a module whose other names stayed or moved together.
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "base.storage": {"points.weights": ("data_digest", "load_point", "save_point")},
    "run.analysis": {
        "run.given": ("Interrupted", "Outcome"), "run.settings": ("Settings", "output_folder"),
        "run.sector": ("SolvedSector", "sector_job", "solve_sector"), "run.find": ("search_job",),
    },
    "base.checkpoints": {"base.states": ("matching",)},
    "report.words": {"report.screen": ("Card", "alerts", "cards"), "report.advice": ("escape",)},
    "base.cluster": {"tasks.recipe": ("Recipe", "problem_of")},
    "tasks.data": {"tasks.data.dataset": ("require_whole",)},
    "networks.bare": {"problem.tensors": ("Parameter", "pack", "shape_of", "spread", "unpack")},
    "networks.modules": {"networks.gathering": ("gather",), "problem.held": ("holding",)},
    "groups.group": {
        "groups.products": ("DirectProduct", "SemidirectProduct", "roto_translations", "torus"),
        "groups.closures": ("MatrixGroup", "PermutationGroup", "quaternion_group"),
    },
    "groups.representation": {
        "groups.standard": (
            "defining", "determinant", "from_generators", "harmonics", "images", "permutation", "regular", "rotations",
        ),
    },
}  # fmt: skip
for _here, _there in NAMES.items():
    for _new, _names in _there.items():
        for _name in _names:
            _value = getattr(importlib.import_module(f"stability.{_new}"), _name)
            setattr(importlib.import_module(f"stability.{_here}"), _name, _value)
