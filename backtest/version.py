"""The version of the package: read by the build, printed by ``backtest --version`` and on every report."""

VERSION = "0.1.0"
