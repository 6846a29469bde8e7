#!/bin/sh
# Plants one fault after another into a copy of the core, and asks the simulator (and the search,
# where there is one) whether it is found. Ends with 1 if a fault is not found or does not apply.
#
#   tests/planted_faults.sh [name...]     NM_SIM_SEEDS=600   seeds per fault
#
# A fault that neither can see (of the shell) names in its line `Found by:` the test that must find it.
set -u
home=$(cd "$(dirname "$0")/.." && pwd) || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
export CARGO_TARGET_DIR="$work/target" CARGO_TERM_COLOR=never NM_SIM_SEEDS="${NM_SIM_SEEDS:-600}"
tests=sim
if [ -e "$home/tests/search.rs" ] || [ -e "$home/tests/search/main.rs" ]; then
    tests="sim search"
fi

copy() {
    rm -rf "$work/tree" && mkdir "$work/tree" &&
        cp -R "$home/Cargo.toml" "$home/Cargo.lock" "$home/src" "$home/tests" \
            "$home/benches" "$home/examples" "$home/conf" "$home/docs" "$work/tree/" &&
        # A copied file may be older than what was built from its planted twin.
        find "$work/tree/src" -name '*.rs' -exec touch {} +
}

# Prints what found the fault; nothing if the test passed.
found_by() { # TEST [FILTER]
    case $1 in lib) of=--lib ;; *) of="--test $1" ;; esac
    # shellcheck disable=SC2086
    (cd "$work/tree" && timeout 300 cargo test --quiet $of ${2:-}) >"$work/log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then
        return
    elif [ $code -eq 124 ]; then
        echo "$1 RAN OUT OF TIME"
    elif grep -q 'could not compile' "$work/log"; then
        echo "DOES NOT COMPILE"
    else
        rule=$(sed -n 's/^seed [0-9]*: \(.*\)/\1/p' "$work/log" | head -1 | cut -c1-50)
        stories=$(grep -c '^thread .scenarios::' "$work/log")
        if [ "$1" = sim ]; then
            echo "sim: seeds: ${rule:-nothing}; stories: $stories"
        else
            echo "$1"
        fi
    fi
}

copy || exit 2
(cd "$work/tree" && cargo test --quiet --no-run --test sim --test search) >"$work/log" 2>&1 || { cat "$work/log"; exit 2; }
missed=0
printf '| fault | found by |\n|---|---|\n'
for patch in none "$home"/tests/planted/*.patch; do
    name=$(basename "$patch" .patch)
    case " $* " in "  " | *" $name "*) ;; *) continue ;; esac
    copy || exit 2
    found=
    named=
    if [ "$patch" != none ]; then
        named=$(sed -n 's/^Found by: //p' "$patch")
    fi
    if [ "$patch" != none ] &&
        ! patch --quiet --batch -p1 -d "$work/tree" <"$patch" >"$work/log" 2>&1; then
        found="DOES NOT APPLY"
    elif [ -n "$named" ]; then
        # shellcheck disable=SC2086
        found=$(found_by $named)
    else
        for test in $tests; do
            by=$(found_by "$test")
            found="$found${by:+${found:+; }$by}"
        done
    fi
    case "$patch,$found" in
    none,) found="nothing, as it should be" ;;
    none,* | *, | *DOES\ NOT* | *OUT\ OF\ TIME*) missed=1 ;;
    esac
    printf '| %s | %s |\n' "$name" "${found:-NOT FOUND}"
done
exit $missed
