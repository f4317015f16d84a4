# Every target sets up what it needs and does nothing twice: a stamp file under .venv/ or build/ says
# what is done. Options of a command go in ARGS: `make test ARGS='-k http1 -x'`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
# What the core is compiled from. A .py with a .pxd beside it is compiled as it stands.
CONTRACTS := $(wildcard fastgate/*.pxd fastgate/*/*.pxd bench/*/*.pxd)
SOURCES := setup.py $(CONTRACTS) $(wildcard fastgate/*/*.pyx $(CONTRACTS:.pxd=.py))
CORE := $(patsubst fastgate/_core/%.pyx,%,$(wildcard fastgate/_core/*.pyx))
COMMA := ,
SPACE := $(subst ,, )
# The tests that exercise the compiled core by itself: what sanitizers and checked builds run.
CORE_TESTS := tests/differential tests/fuzz $(wildcard $(CORE:%=tests/unit/test_%*.py))

.PHONY: help venv build demo test lint asan debug annotate instr soak bench micro wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.installed ## create .venv with all dependencies

build: build/.built ## compile the core in place

demo: build ## a real engine behind the gateway, with a tour (ARGS=--once, DEMO_ENGINE=sim)
	$(PY) -m bench demo $(ARGS)

test: build ## the whole suite
	$(PY) -m pytest $(ARGS)

lint: build ## format, lint and type checks
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	PATH="$(abspath $(VENV)/bin):$$PATH" cython-lint fastgate
	$(PY) -m mypy
	$(PY) -m mypy.stubtest $(CORE:%=fastgate._core.%) --allowlist tests/stubtest-allowlist.txt

annotate: venv ## fail when a hot kernel touches a Python object
	$(PY) -m tests.annotate

instr: build ## instruction budgets of the hot operations (needs valgrind)
	$(PY) -m pytest tests/perf $(ARGS)

soak: build ## what takes longer than the suite may
	$(PY) -m pytest -m soak --timeout 3600 $(ARGS)

bench: build ## measure the README's table (ARGS='--rounds 1' for a first look)
	$(PY) -m bench scenario short $(ARGS)

micro: build ## the kernels beside what one would otherwise use
	$(PY) -m pytest tests/micro --benchmark-enable --benchmark-columns=min,median,ops $(ARGS)

# Memory and undefined-behaviour errors. CPython itself is not instrumented, so the runtime is preloaded,
# its allocator goes through malloc, and leaks (CPython's own, mostly) are not reported.
asan: build/asan-tree/.built ## the core's tests under AddressSanitizer and UBSan
	cd build/asan-tree && \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	PYTHONMALLOC=malloc ../../$(PY) -m pytest -p no:faulthandler --timeout 300 $(CORE_TESTS) $(ARGS)

debug: build/debug-tree/.built ## the core's tests with bounds, overflow and None checks
	cd build/debug-tree && ../../$(PY) -m pytest --timeout 300 $(CORE_TESTS) $(ARGS)

wheel: venv ## a wheel in dist/
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what was built; .venv and .demo stay
	rm -rf build dist *.egg-info
	find fastgate bench -name '*.so' -delete
	find fastgate bench tests -name __pycache__ -prune -exec rm -rf {} +

# A Python of 3.11 or newer that can make a virtual environment and compile extensions.
# PYTHON=... names one; else the first that fits.
$(PY):
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	        lacking="$$lacking $$python: no venv module (on Debian: apt install python3-venv);"; \
	        continue; }; \
	    "$$python" -c 'import os, sysconfig; \
	os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null || { \
	        lacking="$$lacking $$python: no C headers (on Debian: apt install python3-dev);"; \
	        continue; }; \
	    echo "creating $(VENV) with $$python"; \
	    exec "$$python" -m venv $(VENV); \
	done; \
	echo "no suitable Python: 3.11 or newer is needed;$$lacking PYTHON=... names another" >&2; exit 1

# The editable install puts `fastgate` on the path; it compiles the core, too.
$(VENV)/.installed: pyproject.toml | $(PY)
	@command -v cc >/dev/null || { echo "a C compiler (cc) is needed: apt install gcc" >&2; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check 'setuptools>=77' 'cython>=3.3,<3.4'
	$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	    --editable '.[bench,demo,dev]'
	@touch $@

build/.built: $(SOURCES) | $(VENV)/.installed
	$(PY) setup.py --quiet build_ext --inplace
	@mkdir -p build && touch $@

# Builds that must not replace the release one live in a copy of the tree. The core is what is tested in
# them; the rest comes along as it was built.
build/%-tree/.built: build/.built FORCE
	@mkdir -p $(@D)
	tar -cf - --exclude=__pycache__ fastgate tests bench setup.py pyproject.toml | tar -xf - -C $(@D)
	cd $(@D) && FASTGATE_BUILD=$* FASTGATE_ONLY=$(subst $(SPACE),$(COMMA),$(CORE:%=fastgate._core.%)) \
	    ../../$(PY) setup.py --quiet build_ext --inplace --force
	@touch $@

FORCE:
