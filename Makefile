# How each thing is run; `make help` says what there is. Plain make: it works with GNU make 3.81 (macOS) and BSD make.
PYTHON ?= python3
BIN = .venv/bin
# What `make test` runs beside the unit tests: each needs a real server.
CORE = tests/integration/test_raw_table.py tests/integration/test_producing.py tests/e2e/test_dagster_pages.py
SOURCES = k2_market k2_resources k2_assets k2_sensors k2_platform k2_cli tests benchmarks deploy

.PHONY: help setup demo screenshots test test-rest test-all test-faults test-chaos replay bench-ingest bench-freshness bench-history bench-bars bench-query bench-start bench-growth bench-page flag-rates check cycles format up down status lock lock-java clean

help: ## Show what can be run
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## Install all that K2 needs into .venv
	@:

.venv/.ready: requirements.lock pyproject.toml deploy/local/bootstrap.sh
	@PYTHON="$(PYTHON)" sh deploy/local/bootstrap.sh
	@touch .venv/.ready

demo: setup ## Run the main job: data on Kafka becomes checked days and bars
	@$(BIN)/k2 demo

screenshots: setup ## Take the pictures in docs/images (needs Chromium)
	@$(BIN)/k2 demo
	@$(BIN)/python tests/e2e/take_screenshots.py

test: setup ## Run the unit tests, and those of broker, registry, tables and UI that tell most: a few minutes
	@# Tests that mostly wait, for servers and a browser, run beside the others; what they print comes last.
	@$(BIN)/python -m pytest -m "not slow" $(CORE) > .waiting-tests.log 2>&1 & waiting=$$!; \
		$(BIN)/python -m pytest -m "not slow" tests/unit; others=$$?; \
		wait $$waiting; waited=$$?; cat .waiting-tests.log; exit $$((others | waited))

test-rest: setup ## Run the tests that `make test` leaves out and that are not slow
	@$(BIN)/python -m pytest -m "not slow" tests/e2e tests/faults $(CORE:%=--ignore %) > .waiting-tests.log 2>&1 & \
		waiting=$$!; $(BIN)/python -m pytest -m "not slow" tests/dagster tests/integration $(CORE:%=--ignore %); others=$$?; \
		wait $$waiting; waited=$$?; cat .waiting-tests.log; exit $$((others | waited))

test-all: setup ## Run all tests: hours
	@$(BIN)/python -m pytest

test-faults: setup ## Run the tests that kill, pause and corrupt; SEED=n repeats a run's random choices
	@$(BIN)/python -m pytest tests/faults $${SEED:+--seed $$SEED}

test-chaos: setup ## Kill every process at random for ten minutes under load; CHAOS_SECONDS=n for another time
	@$(BIN)/python -m pytest tests/faults/test_chaos.py --chaos-seconds $${CHAOS_SECONDS:-600} $${SEED:+--seed $$SEED}

replay: setup ## Run one simulated schedule again and tell it: make replay SCHEDULE=n
	@$(BIN)/python -m pytest tests/faults/test_simulated_schedules.py -k nothing_is_lost --replay $$SCHEDULE

bench-bars: setup ## Measure a day of ten million trades: raw rows to trades to bars; make bench-bars BENCH='--rounds 1'
	@$(BIN)/python -m benchmarks.bars $(BENCH)

bench-query: setup ## Measure questions over 250 days and 50 million trades; BENCH as above
	@$(BIN)/python -m benchmarks.query $(BENCH)

bench-start: setup ## Measure how long k2 --help and k2 bars take from the shell; BENCH as above
	@$(BIN)/python -m benchmarks.start $(BENCH)

bench-growth: setup ## Measure commit, plan and tick after 10, 1,000 and 10,000 commits and 3,000 days (half an hour)
	@$(BIN)/python -m benchmarks.growth $${COMMITS:+--commits $$COMMITS} $${DAYS:+--days $$DAYS}

bench-ingest: setup ## Compare ingestion with the Kafka Connect sink and the client alone (needs Java 17 and Maven)
	@$(BIN)/python -m benchmarks.ingest $(BENCH)

bench-freshness: setup ## Measure how long a trade takes until SQL sees it, under a daemon
	@$(BIN)/python -m benchmarks.freshness $(BENCH)

bench-history: setup ## Load a thousand days through a daemon, from the topic to all bars
	@$(BIN)/python -m benchmarks.history $(BENCH)

flag-rates: setup ## Count how often each check flags trades of real days
	@$(BIN)/python -m benchmarks.flag_rates

bench-page: setup ## Write docs/performance.md from the benchmarks' results
	@$(BIN)/python -m benchmarks.performance_page

check: setup ## Check format, lint, types and import directions
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python deploy/local/module_cycles.py

cycles: setup ## Print cycles of imports between modules and between sub-packages; there are none
	@$(BIN)/python deploy/local/module_cycles.py

format: setup ## Format the code and put right what the linter can
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

up: setup ## Start the local stack
	@$(BIN)/k2 up

down: setup ## Stop the local stack; its data stays
	@$(BIN)/k2 down

status: setup ## Show which parts of the local stack run
	@$(BIN)/k2 status

lock: ## Pin the Python packages anew (needs uv)
	uv pip compile pyproject.toml --extra platform --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --output-file requirements.lock

lock-java: setup ## Pin the Java archives anew
	@$(BIN)/python deploy/local/lock_java_artifacts.py

clean: ## Remove .venv and caches; data in K2_HOME stays
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
