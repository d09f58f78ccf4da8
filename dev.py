"""Sets up `.venv` in this checkout and runs the demo or the checks in it.

    python3 dev.py demo [options of `pricepulse demo`]
    python3 dev.py check

Needs Python 3.11 or newer with venv and pip, and nothing else.
"""

import sys

# Before anything that an older Python could not even define, so that it gets this sentence and
# not a traceback.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"PricePulse needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Call a newer one by name, for example: python3.12 dev.py check"
    )

import hashlib
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCK = ROOT / "requirements.lock"
# Written after each step: an installation that was interrupted has no stamp and starts over.
STAMP = VENV / "set-up"

GATES = {
    "ruff format": ["ruff", "format", "--check", "."],
    "ruff check": ["ruff", "check", "."],
    "mypy": ["mypy"],
    "lint-imports": ["lint-imports", "--no-logo"],
    # A file's tests share a server or a warehouse, so they stay in one process. In their own order: by the
    # number of tests the longest files, which have few, would come last, and one process wait for the other.
    "pytest": ["pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"],
}


def set_up() -> None:
    """Make `.venv` hold exactly what requirements.lock and pyproject.toml say.

    A changed lock (or Python) makes it anew: what an older lock had installed could hide a
    dependency that the new one forgot. The build backend is in the lock too, hence
    --no-build-isolation: isolated, pip would fetch whatever fits that day.
    """
    # The path, because a checkout that was copied or moved has a .venv that points elsewhere.
    locked = digest(LOCK.read_bytes(), sys.version.encode(), str(ROOT).encode())
    project = digest((ROOT / "pyproject.toml").read_bytes())
    done = STAMP.read_text().split() if STAMP.is_file() else []
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if done[:1] != [locked]:
        print(f"Setting up {VENV} from requirements.lock: a minute or two", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)
        STAMP.write_text(locked)
    if done != [locked, project]:
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
        STAMP.write_text(f"{locked} {project}")


def digest(*parts: bytes) -> str:
    """SHA-256 of the parts, hexadecimal."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def check() -> int:
    """Run every gate, report them together; 1 when any failed."""
    report = []
    for name, (program, *arguments) in GATES.items():
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        code = subprocess.run([BIN / program, *arguments], cwd=ROOT).returncode
        report.append((name, code, time.monotonic() - started))
    print("\n== all gates")
    for name, code, seconds in report:
        print(f"{name:<14}{'ok' if code == 0 else f'FAILED (exit {code})':<18}{seconds:7.1f} s")
    return 1 if any(code for _, code, _ in report) else 0


def main() -> int:
    """Do what the command line says; the exit code."""
    command, options = sys.argv[1:2], sys.argv[2:]
    if command == ["demo"]:
        set_up()
        # exec: the terminal's Ctrl-C reaches the server itself, and its exit code the shell.
        os.execv(BIN / "pricepulse", ["pricepulse", "demo", *options])
    if command == ["check"] and not options:
        set_up()
        return check()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        command = " ".join(str(word) for word in error.cmd)
        sys.exit(f"dev.py stopped: `{command}` ended with exit code {error.returncode}, see above")
    except KeyboardInterrupt:
        sys.exit(130)
