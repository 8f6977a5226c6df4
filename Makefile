# Every target does its own set-up: a fresh clone needs Python >= 3.11, make and git, nothing else.

PYTHON ?= python3
ARGS ?=

# An active environment of another project, or what a person has told their own Python, must not reach ours.
unexport VIRTUAL_ENV $(filter PYTHON%,$(.VARIABLES))

VENV := .venv
BIN := $(VENV)/bin
# Two stamps, each written last, so that an interrupted set-up never looks done: the locked
# dependencies (rebuilt from nothing when the lock changes) and the package itself (cheap).
# They are named after the place: a checkout that was moved or copied sets itself up again.
PLACE := $(shell pwd | cksum | cut -d ' ' -f 1)
LOCKED := $(VENV)/.locked-$(PLACE)
READY := $(VENV)/.ready-$(PLACE)
# What the WebRTC examples need, in a third: their tests need it, and nothing else does.
WEBRTC := $(VENV)/.webrtc-$(PLACE)
# The tools of the operations, in an environment of their own.
VENV_OPS := .venv-ops
OPS := $(VENV_OPS)/.locked-$(PLACE)
# What builds the documentation, in an environment of its own.
DOCS_BIN := .venv-docs/bin
DOCS := .venv-docs/.ready-$(PLACE)

.DEFAULT_GOAL := help
.PHONY: help run demo test coverage simulate day mutants mutation explore bench-tools docs docs-tools types matrix \
	slurm-test systemd-test image-test kubernetes-test monitoring-test lint format lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: $(READY) ## run a worker against a development server of its own (ARGS="--help" for more)
	@$(BIN)/worker-state run $(ARGS)

demo: $(READY) ## watch a worker through busy, a cut connection and recovery, in some seconds
	@$(BIN)/worker-state run --demo $(ARGS)

test: $(WEBRTC) lint ## check style, types and words, run the tests (all but the slow ones)
	@# In a fresh clone one process compiles the tests first, or each of the eight would.
	@test -d tests/__pycache__ || $(BIN)/python -m pytest --collect-only -qq >/dev/null || true
	$(BIN)/python -m pytest -n 8 --dist loadgroup -m "not slow and not operations" $(ARGS)

PURE := src/worker_state/protocol/*,src/worker_state/tools/checks.py,src/worker_state/tools/roster.py
coverage: $(READY) $(WEBRTC) ## run every test, slowly, and hold the coverage thresholds
	@# The data go to a directory of this run: two runs in one checkout must not mix their figures.
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && export COVERAGE_FILE="$$data/coverage" && \
	$(BIN)/coverage run -m pytest -n 4 --dist loadgroup -m "not operations" $(ARGS) && \
	$(BIN)/coverage combine --quiet && \
	echo "coverage of what is pure: 100 % of the branches" && \
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100 && \
	echo "coverage of the rest: at least 95 %" && \
	$(BIN)/coverage report --omit='$(PURE)' --fail-under=95

simulate: $(READY) ## run many seeds of the simulation (ARGS="--seeds 1000 --minutes 20" for more)
	$(BIN)/python benchmarks/simulate.py $(ARGS)

day: $(READY) ## run a worker through a day by a fast clock, in a quarter of an hour (needs libfaketime)
	DAY_HOURS=24 $(BIN)/python -m pytest tests/real/test_day.py -m slow -n 0 $(ARGS)

mutants: $(READY) ## sabotage the product in many small ways, and see the simulation or a test catch each of them
	$(BIN)/python benchmarks/mutants.py $(ARGS)

explore: $(READY) ## go through every order of events for one worker (ARGS="--sabotages": those of mutants, each to be found)
	$(BIN)/python benchmarks/explore.py $(ARGS)

mutation: $(READY) ## change the decisions in some thousand ways, and see a test notice (hours; ARGS="'worker_state.protocol.lease*'")
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-mutation.lock
	$(BIN)/mutmut run --max-children 1 $(ARGS)
	@$(BIN)/mutmut results

bench-tools: $(READY) ## install what the benchmarks' peers and pictures need beside the rest
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-bench.lock

# The pages, their examples, their links: as Markdown and as a site. Nothing is fetched from outside.
SPHINX := -q -W --keep-going -c docs -d build/doctrees .
docs-tools: $(DOCS) ## install what builds the documentation site

docs: $(DOCS) ## build the documentation site in build/docs, run the examples in it, check its links
	@rm -rf build/docs build/doctest build/doctrees
	$(DOCS_BIN)/sphinx-build -b html $(SPHINX) build/docs
	$(DOCS_BIN)/sphinx-build -b doctest $(SPHINX) build/doctest
	$(DOCS_BIN)/lychee --offline --include-fragments --no-progress --quiet \
		'*.md' 'docs/**/*.md' 'benchmarks/**/*.md' build/docs
	@! grep -rEo '<(script|img|iframe)[^>]* src="(https?:)?//[^"]*|<link[^>]* href="(https?:)?//[^"]*' --include='*.html' build/docs || \
		{ echo "A reader's browser would fetch this from outside." >&2; exit 1; }
	@echo "The site: build/docs/index.html"

# Of the installed package, from outside: that is what the tools of a user see.
types: $(READY) ## check that every public name has its type, and the examples with them, as an editor does
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$$dir" . && \
	$(BIN)/python -m venv "$$dir/venv" && \
	{ "$$dir/venv/bin/python" -m pip install -qq --disable-pip-version-check --retries 1 --only-binary :all: \
		--require-hashes -r requirements-types.lock || \
		{ echo "basedpyright, or what the examples need, cannot be installed here: the types are not checked." >&2; \
		exit 1; }; } && \
	"$$dir/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps "$$dir"/*.whl && \
	cp -r examples "$$dir" && printf '{"typeCheckingMode": "standard"}' > "$$dir/pyrightconfig.json" && cd "$$dir" && \
	export VIRTUAL_ENV="$$dir/venv" PATH="$$dir/venv/bin:$$PATH" && \
	basedpyright --verifytypes worker_state --ignoreexternal && basedpyright examples

# Pythons are taken from the PATH: PATH="/elsewhere/bin:$$PATH" make matrix
matrix: $(OPS) ## run the tests on each Python on the PATH, with the lowest and the newest dependencies (long; ARGS="-p 3.12")
	@test ! -x $(VENV_OPS)/bin/nox || $(VENV_OPS)/bin/nox --sessions tests missing $(ARGS)

slurm-test: $(READY) ## end SLURM jobs in every way, and see each worker drain (root; installs SLURM by apt, starts it on loopback)
	$(BIN)/python -m pytest -n 0 -m operations tests/operations/test_slurm.py $(ARGS)

systemd-test: $(READY) ## run the unit of examples/ under a systemd of its own, in namespaces (root)
	$(BIN)/python -m pytest -n 0 -m operations tests/operations/test_systemd.py $(ARGS)

image-test: $(READY) ## build the container image and run it (podman, runc, mmdebstrap: installed by apt where that can be)
	$(BIN)/python -m pytest -n 0 -m operations tests/operations/test_image.py $(ARGS)

kubernetes-test: $(READY) $(OPS) ## validate the Kubernetes example against the schemas of three versions
	$(BIN)/python -m pytest -n 0 -m operations tests/operations/test_kubernetes.py $(ARGS)

monitoring-test: $(READY) $(OPS) ## try rules and dashboard in a real Prometheus (unpacked from Debian's package where it can)
	$(BIN)/python -m pytest -n 0 -m operations tests/operations/test_monitoring.py $(ARGS)

lint: $(READY) ## check style, types and words only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@# What the other systems lack: each with a cache of its own, which the other's options would make worthless.
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src examples
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src examples
	$(BIN)/hadolint Dockerfile
	$(BIN)/codespell .
	$(BIN)/python docs/words.py

format: $(READY) ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The first lock binds the others; what the types' tool reads are the WebRTC examples, too.
UV_COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" --extra all pyproject.toml
UPGRADE ?= --upgrade
lock: ## resolve the dependencies again and write the locks (UPGRADE= keeps the versions that still fit)
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -qq uv; }
	$(UV_COMPILE) $(UPGRADE) --group dev --output-file requirements.lock
	$(UV_COMPILE) $(UPGRADE) --constraint requirements.lock --output-file requirements-image.lock
	for group in bench docs mutation ops webrtc; do \
		$(UV_COMPILE) $(UPGRADE) --constraint requirements.lock --group $$group --output-file requirements-$$group.lock || exit 1; \
	done
	$(UV_COMPILE) $(UPGRADE) --constraint requirements-webrtc.lock --group webrtc --group types --output-file requirements-types.lock

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) .venv-lock .venv-docs $(VENV_OPS) .nox build dist htmlcov mutants .coverage .coverage.* \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCKED): requirements.lock
	@set -e; found=; \
	for python in "$(PYTHON)" python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			found=$$python; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "worker-state needs Python 3.11 or newer, and $(PYTHON) is not: install one, or name it with 'make PYTHON=...'." >&2; \
		exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found cannot create virtual environments: install its venv module (on Debian and Ubuntu the package python3-venv)." >&2; \
		exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$found (once, well under a minute) ..."; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV); \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || \
		{ $(BIN)/python -m pip check; echo "requirements.lock does not fit pyproject.toml: run 'make lock'." >&2; exit 1; }
	@touch $@

# Without wheels for this machine, or without a network, there are none: then the tests that need them are skipped, and
# the next run tries again.
$(WEBRTC): requirements-webrtc.lock | $(READY)
	@if $(BIN)/python -m pip install -qq --disable-pip-version-check --retries 1 --only-binary :all: --require-hashes \
		-r requirements-webrtc.lock; \
	then touch $@; \
	else echo "aiortc cannot be installed here: the tests of the WebRTC examples are skipped." >&2; fi

# Where they cannot be installed, the tests that need them are skipped, and the next run tries again.
$(OPS): requirements-ops.lock | $(READY)
	@echo "Setting up $(VENV_OPS) (once) ..."; rm -rf $(VENV_OPS); $(BIN)/python -m venv $(VENV_OPS)
	@if $(VENV_OPS)/bin/python -m pip install -qq --disable-pip-version-check --retries 1 --require-hashes \
		-r requirements-ops.lock; \
	then touch $@; \
	else rm -rf $(VENV_OPS); echo "The tools of the group ops cannot be installed here: what needs them is skipped." >&2; fi

$(DOCS): requirements-docs.lock pyproject.toml | $(LOCKED)
	@echo "Setting up .venv-docs (once, about a minute) ..."
	@rm -rf .venv-docs && $(BIN)/python -m venv .venv-docs
	@{ $(DOCS_BIN)/python -m pip install -qq --disable-pip-version-check --retries 1 --require-hashes \
		-r requirements-docs.lock && \
	$(DOCS_BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .; } || \
		{ echo "Sphinx, or what belongs to it, cannot be installed here: the documentation is not built." >&2; exit 1; }
	@touch $@
