# Two commands: `make demo` installs into .venv and runs the whole path; `make test` runs the suite.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SOURCES := pyproject.toml setup.py $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)

FORMATTED := find csrc tests/simt -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh'

# Compilation must not starve the machine, and must be the same size of job everywhere.
export MAX_JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: install demo test fuzz coverage lint audit format sanitize docs package container compilers clean

install: $(READY)

# torch goes in first, so that the extension is built against it without a second copy in an isolated environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(READY): $(VENV)/bin/python $(SOURCES)
	@echo "Installing into $(VENV); the first time takes some minutes."
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch>=2.10,<2.14" "setuptools>=77" "pybind11>=2.13" ninja numpy wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	@touch $@

# Six simulated subjects with known lesions: simulate, refine without labels, then score against the references.
demo: $(READY)
	$(BIN)/cgckit phantom demo/phantom --subjects 6 --seed 0
	$(BIN)/cgckit refine demo/phantom/images --prior mumford-shah --out demo/refined
	$(BIN)/cgckit evaluate demo/refined demo/phantom/references --out demo/scores --picture demo/refined.png
	$(BIN)/cgckit report demo/refined
	@echo "Look at demo/refined.png, and open demo/refined/report/index.html in a browser."

# A process for each core, of one thread: several teams of threads would slow each other down.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# Random headers, streams, tables, words and model cards, and kills at random places: more than in the suite.
fuzz: $(READY)
	CGCKIT_FUZZ=5000 CGCKIT_KILLS=60 $(BIN)/python -m pytest tests/test_fuzz.py tests/pipeline/test_kill.py

# The suite with its coverage, which may not fall below the gate in pyproject.toml.
coverage: $(READY)
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --severity-level medium cgckit
	$(FORMATTED) | xargs $(BIN)/clang-format --dry-run --Werror

# Known vulnerabilities of what is installed beside cgckit; asks the advisory database, so it needs a network.
audit: $(READY)
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(FORMATTED) | xargs $(BIN)/clang-format -i

# The CUDA kernels on the CPU under the address and undefined-behaviour sanitizers. Python itself is not looked at.
sanitize: $(READY)
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(BIN)/python -m pytest tests/simt -k sanitizers -p no:cacheprovider

# The documentation as a site in site/; any warning is an error.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[docs]"
	$(BIN)/python -m mkdocs build --strict

# An sdist and a wheel in dist/, each tried in an environment of its own.
package: $(READY)
	PYTHON=$(BIN)/python tools/check_package.sh

# The image of Dockerfile, tried; where no container engine answers, its steps in a clean folder instead.
container:
	tools/check_container.sh

# The CPU kernels with every compiler that is found here.
compilers:
	csrc/compilers.sh

clean:
	rm -rf $(VENV) build demo dist site *.egg-info cgckit/*.so
