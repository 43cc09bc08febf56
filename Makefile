# Two commands are enough: `make demo` and `make test`. Each installs what is missing, builds, and runs.
# DEMO_OUT is where the demo writes; everything else is said by `jepa-bench --help`.

DEMO_OUT ?= runs/demo

# Where `.ci/setup` puts a cmake that the system lacks.
export PATH := $(HOME)/.local/bin:$(PATH)

.PHONY: demo test check check-cuda fix bench setup setup-browser setup-browser

demo: setup
	cargo run --release -- demo --out $(DEMO_OUT)

test: setup-browser
	cargo test --release --workspace --features jepa-bench-tests/browser

# What a change has to pass before it is committed.
check: setup-browser
	cargo fmt --all -- --check
	cargo clippy --release --workspace --all-targets --features jepa-bench-tests/browser -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
	cargo test --release --workspace --features jepa-bench-tests/browser

# The GPU build, which needs neither a GPU nor a CUDA toolkit to compile (docs/gpu.md).
check-cuda: setup
	cargo check --release -p jepa-bench --no-default-features --features cuda

fix:
	cargo fmt --all
	cargo clippy --release --workspace --all-targets --fix --allow-dirty

bench: setup
	cargo bench --workspace

setup:
	@.ci/setup

# Also what the tests of the board's pages need: Chromium and axe-core.
setup-browser:
	@.ci/setup browser

setup-browser:
	@.ci/setup browser
