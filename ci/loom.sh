#!/usr/bin/env bash
# Model-checks every loom test, then proves that the models can fail.
#
# A twin is the same code with one ordering or one step weakened by `cfg(weaken = "NAME")`. Each twin must
# turn its tests red; a twin that stays green means that the model does not see what it is meant to guard.
#
# Environment:
#   LOOM_MAX_PREEMPTIONS  thread switches explored per execution (default 3)
#   LOOM_TWIN_SECONDS     time limit for the tests of one twin (default 300)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# NAME:FILTER - FILTER selects the loom tests that must go red, and contains `loom_`.
twins=(
    "publish_relaxed:loom_a_message"
    "plain_no_acquire:loom_a_message_on_the_short_path"
    "consumed_relaxed:loom_room"
    "consumed_relaxed:loom_two_readers_get_everything"
    "waits_for_fastest:loom_two_readers_get_everything"
    "zero_after_publish:loom_a_message"
    "batch_first_early:loom_a_batch"
    "overrun_no_release:loom_an_overrun"
    "overrun_no_release:loom_two_readers_that"
    "overrun_no_release:loom_who_is_cut"
    "overrun_no_acquire:loom_an_overrun"
    "overrun_no_acquire:loom_two_readers_that"
    "overrun_no_acquire:loom_who_is_cut"
    "cut_unannounced:loom_who_is_cut"
    "intent_relaxed:loom_who_is_overrun"
    "published_relaxed:loom_a_count"
    "count_relaxed:loom_a_count"
    "sleeper_no_fence:loom_a_s"
    "sleeper_no_fence:loom_one_fence"
    "sleeper_no_fence:loom_one_barrier"
    "waker_no_fence:loom_a_s"
    "waker_no_fence:loom_one_fence"
    "waker_no_fence:loom_one_barrier"
    "baton_dropped:loom_a_reader"
    "baton_kept:loom_an_appointed"
    "bell_relaxed:loom_a_bell"
    "bell_dozes_blindly:loom_a_bell"
)

export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
export RUSTFLAGS="--cfg loom"
# Without default features: crates of others under them do not build for loom, and what is modelled needs none.
# Absolute, and apart from ordinary builds: other flags would rebuild every dependency.
CARGO_TARGET_DIR="$(realpath -m "${CARGO_TARGET_DIR:-target}/loom")"
export CARGO_TARGET_DIR
twin_seconds="${LOOM_TWIN_SECONDS:-300}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

fail() {
    echo "loom: $*" >&2
    exit 1
}

# Builds the unit tests of the library with one weakening and prints the path of the program. The flags after
# `--` reach only the top crate, so loom and the other dependencies are built once. The bench profile is what
# `cargo test --release` uses.
build_twin() {
    cargo rustc --locked --package ringway --no-default-features --lib --profile bench --message-format=json-render-diagnostics \
        -- --cfg "weaken=\"$1\"" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# Runs the program $2 with the filter $3; succeeds if a test failed, and for the right reason.
twin_goes_red() {
    local name="$1" program="$2" filter="$3" status=0
    timeout "$twin_seconds" "$program" "$filter" >"$log" 2>&1 || status=$?
    if grep -q '^running 0 tests' "$log"; then
        echo "twin $name: no test matches '$filter'; correct the table in ci/loom.sh" >&2
    elif [ "$status" -eq 0 ]; then
        echo "twin $name: STAYED GREEN under '$filter'; the model does not see this weakening" >&2
    elif [ "$status" -eq 124 ]; then
        echo "twin $name: no verdict after $twin_seconds s; use a smaller model" >&2
    # A deadlock that loom finds may end the program before the test is reported.
    elif ! grep -qE '^test result: FAILED|^deadlock; threads' "$log" || grep -q 'exceeded maximum number of branches' "$log"; then
        tail -n 30 "$log" >&2
        echo "twin $name: ended with status $status, but not by a failed assertion" >&2
    else
        echo "twin $name: red, as it must be: $(grep '^test .* FAILED$' "$log" | cut -d ' ' -f 2 | xargs)"
        return 0
    fi
    return 1
}

echo "loom: the code as it is (at most $LOOM_MAX_PREEMPTIONS preemptions)"
cargo test --locked --release --package ringway --no-default-features --lib loom_ 2>&1 | tee "$log"
if grep -q '^running 0 tests' "$log"; then
    fail "found no test named loom_*; nothing was checked"
fi

green=0
for twin in "${twins[@]}"; do
    name="${twin%%:*}" filter="${twin#*:}"
    case "$filter" in
    *loom_*) ;;
    *) fail "twin $name: the filter '$filter' must contain loom_, so that the unweakened test runs too" ;;
    esac
    # A name that the code does not know would build the unweakened code.
    grep -rqE "weaken *= *\"$name\"" src || fail "twin $name: nothing in src says cfg(weaken = \"$name\")"
    program="$(build_twin "$name")" || fail "twin $name: does not compile"
    [ -x "$program" ] || fail "twin $name: cargo named no test program"
    twin_goes_red "$name" "$program" "$filter" || green=$((green + 1))
done
[ "$green" -eq 0 ] || fail "$green of ${#twins[@]} twins did not go red as they must"
echo "loom: all ${#twins[@]} twins went red"
