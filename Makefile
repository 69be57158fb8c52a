# make demo      a real sweep on scikit-learn's digits, an agent for CartPole, then a question to both
# make test      the tests, without the slow ones        make test-all  all of them
# make test-gpu  the tests that need a GPU
# make check     style, types and import layers          make clean     removes what make made
#
# The first of them creates .venv and installs velodrome there; nothing but Python 3.11 or newer is needed.
# To choose the Python: make test PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STORE := demo.db
PYTHON ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all test-gpu check install clean

demo: install
	@rm -rf $(STORE) $(STORE)-wal $(STORE)-shm $(STORE).lock $(STORE:.db=.logs) $(STORE:.db=.files)
	$(BIN)/velo sweep examples/digits.py --trials 40 --workers 2 --sampler tpe --scheduler asha --name digits --store $(STORE)
	$(BIN)/velo train ppo --env CartPole-v1 --steps 50000 --seed 1 --name cartpole --store $(STORE)
	$(BIN)/velo query "select number, round(value, 4) as value, state, round(duration_s, 1) as seconds, params from leaderboard where study = 'digits' limit 10" --store $(STORE)
	$(BIN)/velo query "select study, count(*) as trials, round(max(value), 4) as best, round(sum(duration_s), 1) as seconds from leaderboard group by study" --store $(STORE)
	@printf '%s\n' '' \
	  'What to type next:' \
	  '  $(BIN)/velo best digits --store $(STORE)          the best trial and its parameters' \
	  '  $(BIN)/velo why digits 7 --store $(STORE)         the story of one trial' \
	  '  $(BIN)/velo query "select state, count(*) from trials group by state" --store $(STORE)' \
	  '  $(BIN)/velo sweep examples/digits.py --help    every option; stop a sweep with Ctrl-C,' \
	  '  $(BIN)/velo resume digits --store $(STORE)        and go on where it was'

# Tests run in a few processes side by side, neighbours in the same one; TESTS="tests/rl -x" runs some of them.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist worksteal
TESTS ?=

test: install
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(TESTS)

test-all: install
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(TESTS)

test-gpu: install
	VELODROME_TEST_GPU=1 $(BIN)/python -m pytest tests/trials/test_on_gpu.py tests/rl/test_on_gpu.py tests/trials/test_state_codec.py

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

# An interpreter counts if it is new enough and can make an environment with pip in it (Debian's own needs python3-venv).
$(INSTALLED): pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	      found=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'velodrome needs Python 3.11 or newer with its venv module; none of these is: $(or $(PYTHON),python3 python3.13 python3.12 python3.11).' >&2; \
	    echo 'Install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python' >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv $(VENV); \
	fi
	@echo 'Installing velodrome and its development tools into $(VENV) (some minutes, the first time)'
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf $(STORE) $(STORE)-wal $(STORE)-shm $(STORE).lock $(STORE:.db=.logs) $(STORE:.db=.files)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
