# make demo | test | test-fast | bench | coverage | sample | lock | clean. Needs Python 3.11+ and git; Linux or macOS.
# Another Python: make PYTHON=python3.12 demo. More test processes: make WORKERS=8 test. Some benchmarks: make ONLY="fetch lake" bench.
PYTHON = python3
WORKERS = 2
BIN = .venv/bin
ENVIRONMENT = @command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 or newer, or name one: make PYTHON=python3.12 $@" >&2; exit 1; }; \
	$(PYTHON) .ci/environment.py

# Hundreds of commands run one after another: whatever the shell says, each finds what Python compiled for the one before.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast bench coverage sample lock clean

demo:
	$(ENVIRONMENT) demo
	@$(BIN)/backtest demo

# Every test, linters and types among them; the real contracts run on a local node.
test:
	$(ENVIRONMENT) test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

# Without the local node, whole demos, documented commands, sweeps, many replays of the bundled crash, campaigns of kills, faults and damage,
# long random comparisons, and real history: under two minutes.
test-fast:
	$(ENVIRONMENT) test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not chain and not slow"

# Figures, not tests: prints a table and writes build/bench.json.
bench:
	$(ENVIRONMENT) bench
	@$(BIN)/python -m tests.bench $(ONLY)

# Do the intervals of what-if answers hold the truth? Twin chains on a local node (docs/coverage.md); half an hour on two cores.
coverage:
	$(ENVIRONMENT) test
	@$(BIN)/python -m tests.coverage --pairs 100 --seed 1 --rows build/coverage.jsonl

# Record data/sample anew, from a local node.
sample:
	$(ENVIRONMENT) test
	@$(BIN)/python -m tests.chain.sample

# Resolve the dependencies of pyproject.toml; the locks hold hashes and no addresses.
COMPILE = build/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
lock:
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/pip install --quiet uv
	@$(COMPILE) pyproject.toml --group build --output-file requirements.lock
	@$(COMPILE) pyproject.toml --all-extras --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock
	@$(COMPILE) --group bench --constraint requirements-dev.lock --output-file requirements-bench.lock

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache backtest-demo
