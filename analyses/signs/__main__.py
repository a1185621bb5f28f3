"""The command: judge what is missing, keep rows, draw shares, print counts."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import analyses.signs
from analyses.shared import Section, command, finish, pool_arguments, prepare_folder, table
from analyses.signs.judged import BEYOND, FAMILIES, Lines, counts, draw, outcomes, row
from stability.base.cluster import pool


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge what is missing, write JSON and PNG, print the counts."""
    about = analyses.signs.__doc__
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="problems of each family")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    pool_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("reports/signs"))
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out)
    rows = Lines(folder / "signs.json", {"version": 1})
    jobs = [(f, i) for f in options.families for i in range(options.each) if not rows.has(family=f, number=i)]
    with pool(options.scheduler, options.workers) as spread:
        for done, (_, found) in enumerate(spread.run(row, jobs, "problems"), 1):
            rows.rows.append(json.loads(json.dumps(found)))
            if done % 50 == 0:
                rows.save()
    rows.rows.sort(key=lambda r: (list(FAMILIES).index(r["family"]), r["number"]))
    by_family = counts(rows.rows)
    total = sum(by_family.values(), Counter())
    why = Counter(w for r in rows.rows for name, w in r.get("why", {}).items() if r[name][2] == "undecided")
    undecided = ", ".join(f"{w} {c}" for w, c in why.most_common())
    beyond = sum(why[w] for w in BEYOND)
    decidable = total.total() - beyond
    share = 100 * (total["undecided"] - beyond) / decidable
    section = Section(
        "Problems built to fool the tool",
        "No wrong sign: every verdict is right, or it is withheld.",
        f"{len(rows.rows):,} problems, {total.total():,} verdicts: {total['wrong']} wrong. Of {decidable:,} that "
        f"float64 can decide, {total['undecided'] - beyond:,} ({share:.1f} %) undecided or refused; {beyond:,} beyond "
        f"({undecided}).",
        "A verdict other than undecided or not stationary was the true one in every case."
        if not total["wrong"]
        else "There are wrong signs: the error budget misses a term.",
    )
    header = ("family", "problems", "verdicts", "right", "undecided", "wrong")
    cells = [
        (f, sum(r["family"] == f for r in rows.rows), c.total(), c["right"], c["undecided"], c["wrong"])
        for f, c in by_family.items()
    ]
    reasons = table("What was undecided, and why", ("why", "verdicts"), why.most_common())
    finish(folder, "signs", rows, draw(rows.rows), section, [table("By family", header, cells), reasons])
    print(section.measured)
    for r in rows.rows:
        if "wrong" in outcomes(r):
            print("WRONG", r)


if __name__ == "__main__":
    raise SystemExit(command(main))
