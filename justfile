# Everything a contributor runs. `just check` is what CI runs first.

# Formatting, lints, dependency rules and tests.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features traffic-tests --locked -- -D warnings
    cargo deny --log-level error check bans licenses sources
    cargo test --workspace --locked

# The main job as assertions.
demo:
    cargo run --release -- demo --check

# The table of traffic cases on our sidecar, on Envoy (named by ENVOY), and across clusters.
traffic:
    cargo test --locked --features traffic-tests --test traffic

# What needs root, etcd or Envoy, and takes longer.
e2e:
    tests/e2e/run

# What our sidecar holds in memory beside Envoy (named by ENVOY) with 10 and with 1,000 services: at most half of it.
memory:
    cargo build --release --locked
    python3 tests/peers/memory.py target/release/isthmus 0.5

# What a hundred AuthorizationPolicies cost, as a ratio of requests a second.
policies:
    cargo build --release --locked
    python3 tests/peers/policies.py target/release/isthmus

# The criterion benches of the pure crates.
bench:
    cargo bench -p isthmus-routing -p isthmus-translate -p isthmus-registry --benches
