# cbmir: `make` lists the targets. A fresh machine needs Python 3.11 or later, and make.

PYTHON      ?= python3
VENV        ?= .venv
DEMO        ?= demo
IMAGES      ?= 1500
# where 5 GB matter: TORCH_INDEX=<address of a torch index> takes torch from there (README, "Installing")
TORCH_INDEX ?=

BIN   := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench bench-scale clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cbmir needs Python 3.11 or later; found $$($(PYTHON) --version 2>&1); set PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (torch is large: this takes a minute or several)"
	@test -z "$(TORCH_INDEX)" || $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
		--index-url "$(TORCH_INDEX)" torch torchvision
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev,dicom]"
	@touch $@

demo: $(READY) ## draw a collection, run the whole pipeline, print a leaderboard and where the report lies
	$(BIN)/cbmir phantoms $(DEMO)/images --images $(IMAGES) --seed 0
	$(BIN)/cbmir run phantoms $(DEMO)/images --study $(DEMO)/study \
		--encoder pixels32 --encoder timm:mobilenetv3_small_100~random0 --exclude-same patient_id

test: $(READY) ## run every test, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 20

check: $(READY) ## lint and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## measure speed and memory side by side; prints ratios
	-@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m tests.bench

bench-scale: $(READY) ## index, search and evaluate 0.1, 0.4 and 1.6 million drawn vectors, and study index sizes; an hour, 12 GB of disk
	$(BIN)/python -m tests.bench.scale
	$(BIN)/python -m tests.bench.scale_study

clean: ## remove the environment and the demo
	rm -rf $(VENV) $(DEMO)
