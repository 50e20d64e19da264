# Everything one runs here; CI calls nothing else. `make help` lists it.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $(p))))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
# two workers, one a core; tests compile more than they compute, so XLA optimises in test-slow only
OPTIMISE := 0
PYTEST = XLA_FLAGS="--xla_backend_optimization_level=$(OPTIMISE)" \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope
FLOAT32 = BNNSAMPLE_TEST_PRECISION=float32 $(PYTEST) -k "not refused" \
	--jaxtyping-packages=bnnsample,beartype.beartype
FORMULAS := tests/limits tests/repriorisation tests/models tests/test_randomness.py \
	tests/sampling/test_integrators.py tests/sampling/test_store.py tests/diagnostics/test_vectorised.py
LONG := $(patsubst %,tests/limits/test_%.py,conditioned devices dynamics empirical gaussian_process hyperparameters \
	kernels laplace monte_carlo nngp oracles plan pseudo stored) \
	tests/repriorisation/test_collapse.py tests/repriorisation/test_hierarchical.py \
	tests/repriorisation/test_span.py tests/models/test_duals.py tests/models/test_duals_hermite.py \
	$(patsubst %,tests/models/test_%.py,layers likelihoods unknown_scales)

.PHONY: help quickstart cifar10-nngp uci classes samplers widths-fcn widths-resnet limit regimes geometry finite-vs-infinite validate power test test-slow check format docs dist bench peers clean
.DEFAULT_GOAL := help

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: .venv/installed  ## Sample three widths under three targets; writes results/quickstart/report.html
	$(BIN)/bnnsample widths --data digits --widths 64 256 1024 \
		--target standard repriorised marginal --out results/quickstart

# The second pass also checks every annotated shape; bad input would meet those checks before ours.
test: .venv/installed-dev  ## Run the tests in float64, then the formulas and runs in float32
	$(PYTEST) -m "not slow"
	$(FLOAT32) -m "not slow" $(FORMULAS) $(addprefix --ignore=,$(LONG))

test-slow: OPTIMISE := 3
test-slow: .venv/installed-dev  ## Run the long tests, and all of the formulas in float32
	$(PYTEST) -m slow
	$(FLOAT32) $(FORMULAS)

check: .venv/installed-dev  ## Lint, check the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/installed-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

cifar10-nngp: .venv/installed  ## Classify CIFAR-10 with infinitely wide networks; BNNSAMPLE_DATA is its folder
	$(BIN)/python experiments/cifar10_nngp.py

classes: .venv/installed  ## Classify digits and Fashion-MNIST; BNNSAMPLE_DATA has the latter
	$(BIN)/python experiments/classes.py

uci: .venv/installed  ## Predict nine UCI tables beside MC dropout; BNNSAMPLE_DATA has them in uci/
	$(BIN)/python experiments/uci.py

samplers: .venv/installed  ## Compare every sampler on every target, per gradient and per second
	$(BIN)/python experiments/samplers.py

widths-fcn: .venv/installed  ## Compare targets on CIFAR-10, fully connected, over width; hours
	$(BIN)/python experiments/widths_fcn.py

widths-resnet: .venv/installed  ## The same for a residual network without normalisation; hours
	$(BIN)/python experiments/widths_resnet.py

limit: .venv/installed  ## Distance to the NNGP posterior over width and depth, with its rate; hours
	$(BIN)/python experiments/limit.py

regimes: .venv/installed  ## Find where the map stops helping; an hour
	$(BIN)/python experiments/regimes.py

geometry: .venv/installed  ## KL from posterior to prior and the Hessian's spectrum, over width
	$(BIN)/python experiments/geometry.py

finite-vs-infinite: .venv/installed  ## Classify images with infinite, sampled and trained networks; an hour
	$(BIN)/python experiments/finite_vs_infinite.py

validate: .venv/installed  ## Hold the default target and sampler against exact posteriors
	$(BIN)/bnnsample validate

power: .venv/installed  ## Measure which check catches which fault, and how often
	$(BIN)/python experiments/power.py

docs: .venv/installed-dev  ## Build the API reference; writes results/docs/index.html
	$(BIN)/python experiments/docs/build.py

dist: .venv/installed-dev  ## Build the wheel and the sdist into dist/
	$(BIN)/python -m build

bench: .venv/installed  ## Measure what gradients, convolutions, sampling, diagnostics and kernels cost
	$(BIN)/python experiments/benchmarks/gradient_cost.py
	$(BIN)/python experiments/benchmarks/convolutions.py
	$(BIN)/python experiments/benchmarks/sampling.py
	$(BIN)/python experiments/benchmarks/diagnostics.py
	$(BIN)/python experiments/benchmarks/kernels.py

peers: .venv/installed .venv-bde/installed  ## The same posterior by NumPyro, blackjax and others; an hour
	$(BIN)/python experiments/benchmarks/peers.py --bde .venv-bde/bin/python

clean:  ## Remove the environment and what tools left behind; results stay
	rm -rf .venv .venv-bde build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: got no Python of version 3.12 or newer on the PATH;" \
		"expected python3 >= 3.12; probably it has another name: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	@touch $@

# sklearn-contrib-bde asks for another version of blackjax
.venv-bde/installed: .venv/bin/python
	.venv/bin/python -m venv .venv-bde
	.venv-bde/bin/python -m pip --disable-pip-version-check install sklearn-contrib-bde==1.0.2
	@touch $@
