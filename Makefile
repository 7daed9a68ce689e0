# Every target sets up .venv first. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# mmflow has an environment of its own. With a GPU and nvcc: make mmflow FORCE_CUDA=1
MMFLOW := .venv-mmflow
FORCE_CUDA ?= 0

.PHONY: demo test check fuzz bench gpu leaderboard figures figures-camera site test-site setup mmflow test-mmflow clean

demo: setup
	$(BIN)/bench run --method stpl

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bench leaderboard --check
	$(BIN)/bench analyse --check
	$(BIN)/bench scorers --check

# Every reader against damaged files, 10,000 of each: a table, and exit code 1 if one passes unseen, hangs or ends otherwise. Then a
# kill at every write, rename, unlink and mkdir of a run, a sweep, a submission and a page.
EACH := 10000
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.harness --each $(EACH)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/faults/test_kill_points.py --all-points

# Also writes BENCHMARKS.md. With peers' libraries: .venv/bin/python -m pip install -e '.[bench]'
bench: setup
	mkdir -p .benchmarks
	$(BIN)/python -m pytest tests/benchmarks -q -rs --benchmark-columns=median,rounds --benchmark-json=.benchmarks/last.json; \
		status=$$?; $(BIN)/python -m tests.benchmarks.report .benchmarks/last.json && exit $$status  # a missed limit is on the page too

# On a machine with a GPU, in the Python that has its torch: nothing is installed, no network is needed. What to carry there stands in
# tests/gpu/conftest.py. make gpu BOARD=--board adds MiniStreet's main leaderboard of one seed; BENCH_GPU_REPORT=file.json keeps the figures.
BOARD :=
gpu:
	PYTHONPATH=. $(PYTHON) -m pytest tests/gpu -q -rs $(BOARD)

leaderboard: setup
	$(BIN)/bench leaderboard
	$(BIN)/bench analyse --figures-only

# The numbers behind the analysis page and the pictures of predictions come from finished runs: replicates 0 to 2 of these methods.
ANALYSED := source_only,adabn,self_training,ur,hcl,da_vsn_sf,vat_vst_sf,tps_sf,stpl,oracle
figures: setup
	$(BIN)/bench analyse --methods $(ANALYSED) --seeds 0:3
	rm -f leaderboards/figures/ministreet-panels.png leaderboards/figures/ministreet-strip.gif leaderboards/figures/ministreet-film-*.png  # not known by a manifest in a fresh clone
	$(BIN)/bench panels --methods source_only,ur,hcl,stpl,oracle --clips 1 --out leaderboards/figures/ministreet-panels.png
	$(BIN)/bench strip --methods source_only,stpl,oracle --frames 16 --out leaderboards/figures/ministreet-strip.gif
	$(BIN)/bench strip --methods $(ANALYSED) --frames 8 --films leaderboards/figures --out preview/strip.gif

# Predictions on the real drive, without its pictures, from finished runs of replicate 0; DATA is where the drive lies.
DATA := data
figures-camera: setup
	rm -f leaderboards/figures/cityscapes2camvid-predictions.png
	$(BIN)/bench panels --shift cityscapes2camvid --methods source_only,adabn,self_training,stpl --no-pictures --data-root $(DATA) \
		--out leaderboards/figures/cityscapes2camvid-predictions.png
	rm -f leaderboards/figures/cityscapes2camvid-film*
	$(BIN)/bench strip --shift cityscapes2camvid --methods source_only,adabn,self_training,stpl --no-pictures --data-root $(DATA) \
		--frames 8 --clip 16 --films leaderboards/figures --out leaderboards/figures/cityscapes2camvid-film.gif

# The leaderboards as a static site: open site/index.html. Its tests need Debian's Chromium (apt install chromium) and skip without.
site: setup
	$(BIN)/bench site --out site

test-site: setup
	$(BIN)/python -m pytest tests/bench/pages -q -rs

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# mmcv-full is compiled here (a quarter of an hour on two free cores). Its setup.py asks for C++17, today's torch headers want C++20.
mmflow: $(MMFLOW)/.installed

$(MMFLOW)/.installed: requirements-mmflow.txt
	$(PYTHON) -m venv $(MMFLOW)
	$(MMFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-mmflow.txt
	rm -rf $(MMFLOW)/src && mkdir $(MMFLOW)/src
	$(MMFLOW)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--no-binary :all: --dest $(MMFLOW)/src mmcv-full==1.7.2
	tar -xf $(MMFLOW)/src/mmcv-full-1.7.2.tar.gz -C $(MMFLOW)/src
	sed -i.before 's/-std=c++17/-std=c++20/' $(MMFLOW)/src/mmcv-full-1.7.2/setup.py
	MMCV_WITH_OPS=1 FORCE_CUDA=$(FORCE_CUDA) MAX_JOBS=$${MAX_JOBS:-2} $(MMFLOW)/bin/python -m pip install \
		--disable-pip-version-check --no-build-isolation --no-deps $(MMFLOW)/src/mmcv-full-1.7.2
	$(MMFLOW)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps mmflow==0.5.2
	$(MMFLOW)/bin/python -c 'import mmcv.ops, mmflow.apis; print("mmflow", mmflow.__version__, "with mmcv", mmcv.__version__)'
	touch $(MMFLOW)/.installed

test-mmflow: setup mmflow
	$(BIN)/python -m pytest tests/mmflow -q

clean:
	rm -rf $(VENV) runs cache preview
