# make demo    the main job: trains, evaluates and predicts handwritten digits on 8 simulated cores
# make text    the second example: tensorflow-text feeds a classifier of sentences
# make test    the tests
# make test-matrix  the tests on TensorFlow 2.16 (Python 3.11) and on tensorflow-tpu 2.20 (Python 3.13)
# make test-doctor  the doctor in real environments of Python 3.13, 2 GB each
# make bench   speed against the original, a hand-written loop and Keras
# make goldens remakes the numbers that tests compare with, by running the original
# make lint    ruff
# make clean   deletes the virtual environments
#
# Each makes the virtual environment that it needs, outside the tree. MODEL_DIR=... keeps a demo's files there.

PYTHON ?= python3
PYTHON37 ?= python3.7
PYTHON311 ?= python3.11
PYTHON313 ?= python3.13
TENSORFLOW ?= 2.21
# Which distribution: cpu, tpu, or tensorflow for the stock one.
WHEEL ?= cpu

PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tpuest
TPUEST_VENV ?= $(CACHE)/python$(PYTHON_VERSION)-tensorflow$(TENSORFLOW)$(filter-out -cpu,-$(WHEEL))
RUN := $(TPUEST_VENV)/bin/python
# Another checkout, or other dependencies, are installed anew; other sources are not: the install is editable.
INSTALLED := $(TPUEST_VENV)/installed-$(shell (pwd; cat setup.cfg setup.py Makefile) | cksum | cut -d' ' -f1)

DISTRIBUTION := $(if $(filter tensorflow,$(WHEEL)),tensorflow,tensorflow-$(WHEEL))
# Off a TPU, libtpu asks the metadata servers of Google Cloud for minutes without these.
NO_TPU := TPU_SKIP_MDS_QUERY=1 TPU_ACCELERATOR_TYPE=v5litepod-4 TPU_WORKER_HOSTNAMES=localhost TPU_WORKER_ID=0

TF215 := $(CACHE)/tensorflow2.15
TF115 := $(CACHE)/tensorflow1.15
MODEL_DIR_FLAG := $(if $(MODEL_DIR),--model_dir=$(MODEL_DIR))
PYTEST_ARGS ?=
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo text test test-matrix test-oldest test-tpu-wheel test-doctor bench goldens lint clean

demo: $(INSTALLED)
	$(RUN) -m tpuest.examples.digits $(MODEL_DIR_FLAG)

text: $(INSTALLED)
	$(RUN) -m tpuest.examples.text $(MODEL_DIR_FLAG)

test: $(INSTALLED)
	$(RUN) -m pytest $(PYTEST_ARGS)

test-matrix: test-oldest test-tpu-wheel

test-oldest:
	$(MAKE) test PYTHON=$(PYTHON311) TENSORFLOW=2.16

test-tpu-wheel:
	$(NO_TPU) $(MAKE) test PYTHON=$(PYTHON313) TENSORFLOW=2.20 WHEEL=tpu

test-doctor: $(INSTALLED)
	TPUEST_ENVIRONMENTS=$(CACHE)/doctor TPUEST_ENVIRONMENTS_PYTHON=$(PYTHON313) \
	    $(RUN) -m pytest tests/environments $(PYTEST_ARGS)

bench: $(INSTALLED) $(TF215)/installed
	$(RUN) -m benchmarks.run --original $(TF215)/bin/python

goldens: $(TF115)/installed $(TF215)/installed
	$(TF115)/bin/python tests/goldens/record_layers.py
	$(TF215)/bin/python tests/goldens/record_layers.py
	$(TF115)/bin/python tests/goldens/record_crf.py
	$(TF115)/bin/python tests/goldens/record_rnn_cells.py
	$(TF115)/bin/python tests/goldens/record_seq2seq.py
	$(TF215)/bin/python tests/goldens/record_exports.py
	$(TF115)/bin/python tests/conformance/record.py
	$(TF215)/bin/python tests/conformance/record.py

lint: $(INSTALLED)
	$(RUN) -m ruff check .

clean:
	rm -rf $(TPUEST_VENV) $(TF115) $(TF215)

# tensorflow-text asks for the stock tensorflow, which would overwrite ours; and it has no wheel
# for some pairs of old TensorFlow and new Python, where the tests that need it are skipped.
$(INSTALLED):
	$(PYTHON) -m venv $(TPUEST_VENV)
	rm -f $(TPUEST_VENV)/installed-*
	$(RUN) -m pip install --quiet --disable-pip-version-check \
	    --editable '.[$(WHEEL),test]' '$(DISTRIBUTION)==$(TENSORFLOW).*'
	-$(RUN) -m pip install --quiet --disable-pip-version-check \
	    --no-deps 'tensorflow-text==$(TENSORFLOW).*'
	touch $@

$(TF215)/installed:
	$(PYTHON311) -m venv $(TF215)
	$(TF215)/bin/python -m pip install --quiet --disable-pip-version-check \
	    tensorflow-cpu==2.15.1 tensorflow-estimator==2.15.0 'numpy<2'
	touch $@

$(TF115)/installed:
	$(PYTHON37) -m venv $(TF115)
	$(TF115)/bin/python -m pip install --quiet --disable-pip-version-check \
	    tensorflow==1.15.5 'protobuf<3.21'
	touch $@
