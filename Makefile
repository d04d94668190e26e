# Two commands on a fresh machine, with nothing but python3, pip and make: `make demo` and `make test`.
# What they need is built once, outside this folder, and found again: see dev/environments.py.

PYTHON ?= python3
# A virtual environment with a vLLM of your own, to use instead of building one for the CPU.
VLLM ?=

ENVIRONMENTS := $(PYTHON) dev/environments.py
SET_DEV := set -e; dev="$$($(ENVIRONMENTS) path dev)"
ifeq ($(VLLM),)
SET_ALL := $(SET_DEV); vllm="$$($(ENVIRONMENTS) path vllm)"; model="$$($(ENVIRONMENTS) path model)"
else
SET_ALL := $(SET_DEV); vllm="$$(cd "$(VLLM)" && pwd)"; \
	model="$$($(ENVIRONMENTS) path model --vllm "$$vllm")"
endif
SET_GUARDS := $(SET_ALL); guards="$$($(ENVIRONMENTS) guards)"; browser="$$($(ENVIRONMENTS) browser)"
PYTEST := VGUARD_TEST_BROWSER="$$browser" VGUARD_TEST_GUARDS="$$guards" VGUARD_TEST_VLLM="$$vllm" VGUARD_TEST_MODEL="$$model" \
	"$$dev/bin/python" -m pytest

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

demo: ## `vllm-guard --profile debug -- vllm serve` for real: start, one completion, Ctrl-C, report
	@$(SET_ALL); "$$dev/bin/python" dev/demo.py "$$vllm" "$$model"

test: lint types docs ## lint, types, the site and every test, real vLLM included
	@$(SET_GUARDS); echo '==> pytest'; $(PYTEST)

soak: ## the long matrices; run them before a release
	@$(SET_GUARDS); HYPOTHESIS_PROFILE=soak $(PYTEST) -m soak

quick: ## the tests that start no vLLM
	@$(SET_DEV); "$$dev/bin/python" -m pytest -m "not vllm and not soak"

lint: ## ruff: rules and format
	@$(SET_DEV); echo '==> ruff'; "$$dev/bin/ruff" check .; "$$dev/bin/ruff" format --check .

types: ## mypy, strict
	@$(SET_DEV); echo '==> mypy'; "$$dev/bin/mypy"

format: ## ruff: mend what it can
	@$(SET_DEV); "$$dev/bin/ruff" check --fix .; "$$dev/bin/ruff" format .

completions: ## write completions/ anew
	@$(SET_DEV); "$$dev/bin/python" -m dev.completion

signatures: ## write docs/signatures.md anew
	@$(SET_DEV); "$$dev/bin/python" dev/signature_docs.py

reference: ## write docs/cli.md and the man page anew
	@$(SET_DEV); "$$dev/bin/python" dev/cli_docs.py

# mkdocs-material prints a page about MkDocs 2 at each build unless it is told not to.
docs: ## the site of the documentation, in build/site; a warning is an error
	@set -e; docs="$$($(ENVIRONMENTS) path docs)"; echo '==> mkdocs'; \
	NO_MKDOCS_2_WARNING=1 "$$docs/bin/mkdocs" build

bench: ## what a launch costs, next to its peers
	@$(SET_DEV); "$$dev/bin/python" benchmarks/launch.py

.PHONY: help demo test soak quick lint types format completions signatures reference docs bench
