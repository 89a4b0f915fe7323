# The commands of daily work. `just` lists them.

default:
    @just --list

# The store on http://127.0.0.1:8080
dev:
    cargo run --release -- dev

test:
    cargo test --workspace

# Formatting, lints and documentation, as CI wants them
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Dependencies against deny.toml (needs cargo-deny)
deny:
    cargo deny check
