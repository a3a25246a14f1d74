#!/usr/bin/env bash
# Everything that must hold before a commit. Runs from anywhere; stops at the first failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skipped=()
step=""
step_started=0

begin() {
    step="$1"
    step_started=$SECONDS
    printf '\n=== %s\n' "$step"
}

end() {
    printf -- '--- %s: %d s\n' "$step" $((SECONDS - step_started))
    step=""
}

skip() {
    skipped+=("$1: $2")
    printf '\n=== %s: skipped, %s\n' "$1" "$2"
}

report() {
    local status=$?
    printf '\n'
    if [ -n "$step" ]; then
        printf 'FAILED in step: %s (after %d s)\n' "$step" $((SECONDS - step_started))
    fi
    local line
    for line in ${skipped[@]+"${skipped[@]}"}; do
        printf 'skipped: %s\n' "$line"
    done
    if [ "$status" -eq 0 ]; then
        printf 'all checks passed in %d s\n' "$SECONDS"
    fi
}
trap report EXIT

require() {
    if ! cargo "$1" --version >/dev/null 2>&1; then
        echo "cargo $1 is missing; install it with: rustup component add $2" >&2
        exit 1
    fi
}

minimum_rust() {
    sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml | head -n 1
}

begin "format"
require fmt rustfmt
cargo fmt --all --check
end

begin "clippy"
require clippy clippy
cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
end

begin "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features
end

begin "tests"
cargo test --locked --workspace --features ringway/tonic,ringway/tower,ringway/zerocopy,ringway/serde,ringway/rkyv
end

begin "the library without features"
cargo check --locked --package ringway --no-default-features
if cargo tree --locked --package ringway --no-default-features --edges normal --prefix none |
    grep -vE '^(ringway|rustix|libc|linux-raw-sys|bitflags) '; then
    echo "the crates above may come with a feature only" >&2
    exit 1
fi
if cargo tree --locked --package ringway --edges normal --prefix none | grep -E '^(tokio|tonic|hyper|tower|serde) '; then
    echo "the crates above may not come by default" >&2
    exit 1
fi
end

if [ -f tests/crash_points.rs ]; then
    begin "crash points"
    cargo test --locked --features crash-points --test crash_points --test broadcast_crash
    end
else
    skip "crash points" "there is no tests/crash_points.rs"
fi

begin "loom"
bash ci/loom.sh
end

minimum="$(minimum_rust)"
native="$(rustc --version | cut -d ' ' -f 2)"
toolchains="$(rustup toolchain list 2>/dev/null || true)"
case "$minimum" in
*.*.*) toolchain="$minimum" ;;
*) toolchain="$minimum.0" ;;
esac
if [ "$native" = "$toolchain" ]; then
    begin "minimum Rust $minimum"
    echo "checked natively: every step above used rustc $native"
    end
elif grep -q "^$toolchain-" <<<"$toolchains"; then
    begin "minimum Rust $minimum"
    cargo "+$toolchain" check --locked --workspace
    end
else
    skip "minimum Rust $minimum" "rustc here is $native and rustup has no toolchain $toolchain"
fi

if cargo deny --version >/dev/null 2>&1; then
    begin "licences and banned crates"
    cargo deny --locked --workspace --all-features check bans licenses sources
    end
    skip "security advisories" "their database is not part of the package registry; run: cargo deny check advisories"
else
    skip "licences and banned crates" "cargo-deny is missing; install it with: cargo install --locked cargo-deny"
fi
