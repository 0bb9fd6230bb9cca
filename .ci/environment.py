"""Create .venv from a lock file: ``python3 .ci/environment.py demo|test|bench``. Run by make; written so that an old
Python can read it and say so.

An environment whose stamp names the same locks, the same Python and the same pyproject.toml is left alone.
"""

import hashlib
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = "requirements-bench.lock"
LOCKS = {
    "demo": ["requirements.lock"],
    "test": ["requirements-dev.lock"],
    "bench": ["requirements-dev.lock", PEERS],
}
NEEDED = (3, 11)


def remedy(version, modules):
    """What to do first on this machine, or None. ``modules``: a function that says whether a module can be imported."""
    if version < NEEDED:
        found = ".".join(map(str, version[:2]))
        return (
            f"Python 3.11 or newer is needed, this is {found}: install one and name it, for example: make"
            " PYTHON=python3.12 demo"
        )
    missing = [name for name in ("venv", "ensurepip") if not modules(name)]
    if missing:
        package = f"python{version[0]}.{version[1]}-venv"
        return f"Python's module {missing[0]} is missing: install it, on Debian and Ubuntu with: apt install {package}"
    return None


def importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def digest(kind):
    """Names what an environment was made from."""
    state = hashlib.sha256((f"{sys.version} {ROOT}").encode())
    for name in LOCKS[kind] + ["pyproject.toml"]:
        with open(os.path.join(ROOT, name), "rb") as file:
            state.update(file.read())
    return state.hexdigest()


def satisfied(venv, kind):
    """True if the environment there was made for this kind, or for a larger one."""
    kinds = list(LOCKS)
    for candidate in kinds[kinds.index(kind) :]:
        stamp = os.path.join(venv, "made-for-" + candidate)
        if os.path.exists(stamp):
            with open(stamp) as file:
                if file.read() == digest(candidate):
                    return True
    return False


def usable(python):
    """False where there is no environment, an interrupted one, or one of another Python."""
    try:
        said = subprocess.check_output([python, "-c", "import pip, sys; print(sys.version)"], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
    return said.decode().strip() == sys.version


def build(venv, kind):
    """Make or complete the environment: every file checked against its hash in the lock, the checkout itself linked
    in.
    """
    python = os.path.join(venv, "bin", "python")
    for candidate in LOCKS:
        stamp = os.path.join(venv, "made-for-" + candidate)
        if os.path.exists(stamp):
            os.remove(stamp)
    if not usable(python):
        run([sys.executable, "-m", "venv", "--clear", venv])
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    print(f"installing into {os.path.relpath(venv)} (once; about half a minute)", flush=True)
    for lock in LOCKS[kind]:
        command = [*pip, "--require-hashes", "--requirement", os.path.join(ROOT, lock)]
        if lock != PEERS:
            run(command)
        elif subprocess.call([*command, "--only-binary", ":all:"]):
            print("no wheels of the peers for this Python: benchmarks leave the comparison with them out", flush=True)
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT])
    with open(os.path.join(venv, "made-for-" + kind), "w") as file:
        file.write(digest(kind))


def run(command):
    code = subprocess.call(command)
    if code:
        sys.exit("make: this command failed, see above: " + " ".join(command[-4:]))


def main():
    problem = remedy(sys.version_info, importable)
    if problem:
        sys.exit("make: " + problem)
    venv, kind = os.path.join(ROOT, ".venv"), sys.argv[1]
    if not satisfied(venv, kind):
        build(venv, kind)


if __name__ == "__main__":
    main()
