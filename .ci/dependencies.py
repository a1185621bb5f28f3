"""Dependencies by hash: ``lock`` writes requirements.lock from constraints.txt, ``audit`` checks them and the code.

    python .ci/dependencies.py lock     # needs uv and an index
    python .ci/dependencies.py verify FILES
    python .ci/dependencies.py audit    # needs pip-audit, and ruff beside the interpreter of the project

``audit`` ends with 0 when nothing was found beyond what is explained below, with 1 when something was, and with 3 when
no advisory service answered: then the versions have not been audited, and that is said.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK, CONSTRAINTS = ROOT / "requirements.lock", ROOT / "constraints.txt"
EXTRAS = ("test", "cluster")
# Libraries of torch's CUDA build, gigabytes of them; its metadata pins them where that build is installed.
CUDA = re.compile(r"^(nvidia-|cuda-|triton)")
HEAD = "# Written by `make lock` from pyproject.toml and constraints.txt: every file that may be installed, by hash.\n"
# Findings of the static checks that are no defects: rule, file, why.
EXPLAINED = {
    ("S704", "stability/report/render.py"): "the text was escaped a few lines above, only then are tags added",
}
# pickles, eval and exec, shells, temporary names that can be guessed, XML, YAML, templates without escaping, …
RULES = "S"


def entries(text: str) -> dict[str, str]:
    """name → block of a requirements file with hashes.

    >>> entries("a==1 \\\\\\n    --hash=sha256:00\\nb==2 \\\\\\n    --hash=sha256:11\\n").keys()
    dict_keys(['a', 'b'])
    """
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            name = re.split(r"[=\s;]", line)[0].lower().replace("_", "-")
            found[name] = ""
        found[name] += line + "\n"
    return found


def versions(text: str) -> dict[str, str]:
    """name → version of lines ``name==version``, with or without hashes."""
    pairs = re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def lock() -> int:
    """Write requirements.lock."""
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "all.lock"
        command = ["uv", "pip", "compile", "pyproject.toml", *extras, "-c", str(CONSTRAINTS), "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "-o", str(made)]
        subprocess.run([sys.executable, "-m", *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        found = {name: block for name, block in entries(made.read_text()).items() if not CUDA.match(name)}
        # pip may take torch's build without CUDA, which the index does not list.
        report = Path(folder) / "torch.json"
        command = ["install", "--dry-run", "--ignore-installed", "--no-deps", "-q", "--report", str(report)]
        version = versions(CONSTRAINTS.read_text())["torch"]
        subprocess.run([sys.executable, "-m", "pip", *command, f"torch=={version}"], check=True, capture_output=True)
        taken = json.loads(report.read_text())["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"]
    if taken not in found["torch"]:
        found["torch"] = found["torch"].rstrip("\n") + f" \\\n    --hash=sha256:{taken}\n"
    LOCK.write_text(HEAD + "".join(found[name] for name in sorted(found)))
    print(f"{LOCK.name}: {len(found)} packages, {sum(b.count('--hash') for b in found.values()):,} files")
    return 0


def unlocked() -> list[str]:
    """Lines of constraints.txt that requirements.lock contradicts."""
    locked = versions(LOCK.read_text())
    return [
        f"{n}=={v}, locked {locked[n]}" for n, v in versions(CONSTRAINTS.read_text()).items() if locked.get(n, v) != v
    ]


def verify(files: list[str]) -> int:
    """Whether these files are among those locked; nothing of them is run."""
    allowed = set(re.findall(r"sha256:([0-9a-f]{64})", LOCK.read_text()))
    strangers = [f for f in files if hashlib.sha256(Path(f).read_bytes()).hexdigest() not in allowed]
    for file in strangers:
        print(
            f"{file} is none of the files in {LOCK.name}; remove it, or run make lock after looking where it came from"
        )
    return 1 if strangers or not files else 0


def static() -> list[str]:
    """What ruff's security rules find in the package and the analyses, without what is explained."""
    command = [
        str(ROOT / ".venv/bin/ruff"),
        "check",
        "--select",
        RULES,
        "--output-format",
        "json",
        "stability",
        "analyses",
    ]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    found = []
    for finding in json.loads(output):
        file = Path(finding["filename"]).relative_to(ROOT).as_posix()
        line = f"{finding['code']} {file}:{finding['location']['row']}: {finding['message']}"
        why = EXPLAINED.get((finding["code"], file))
        print(f"explained: {line} ({why})") if why else found.append(line)
    return found


def advisories() -> tuple[list[str], int, int]:
    """(findings, packages audited, packages of which no service knew anything)."""
    command = [
        "pip_audit",
        "--require-hashes",
        "--disable-pip",
        "-r",
        str(LOCK),
        "-f",
        "json",
        "--progress-spinner",
        "off",
    ]
    output = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True).stdout
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        return [], 0, len(versions(LOCK.read_text()))
    findings = [
        f"{p['name']} {p['version']}: {v['id']}, fixed in {', '.join(v['fix_versions']) or 'no version yet'}"
        for p in packages
        for v in p.get("vulns", ())
    ]
    skipped = sum("skip_reason" in p for p in packages)
    return findings, len(packages) - skipped, skipped


def audit() -> int:
    """Print what was checked and found; the exit status."""
    found = [f"constraints.txt says {line}: run make lock" for line in unlocked()] + static()
    vulnerable, audited, skipped = advisories()
    for line in found + vulnerable:
        print(f"finding: {line}")
    if skipped:
        print(f"NOT AUDITED: {skipped} of {skipped + audited} packages, for no advisory service answered about them")
    print(f"{audited} packages audited, {len(vulnerable)} advisories; {len(found)} findings in code and versions")
    return 1 if found or vulnerable else 3 if skipped else 0


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    raise SystemExit({"lock": lock, "audit": audit, "verify": lambda: verify(rest)}[command]())
