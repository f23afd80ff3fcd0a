#!/usr/bin/env bash
# One night: gates in virtual time against a stored baseline, a gate in real time, a real backend on demand, the trend.
# Options come by environment; nightly/README.md lists them. Exit code: the worst answer, 0 PASS, 3 INCONCLUSIVE, 1 FAIL, 2 INVALID.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

HARNESS=${HARNESS:-harness}                              # the command under test, words split at spaces
HISTORY=${HISTORY:-nightly-history}                      # baseline/NAME and nights/ of former nights
OUT=${OUT:-nightly-out}                                  # runs, pages, JUnit and JSON of this night
STAMP=${STAMP:-$(date -u +%Y%m%dT%H%M%SZ)}               # what tells this night's runs from all others
SLO=${SLO-nightly/slo.yaml}                              # objectives and what may get worse; empty: none
STACKS=${STACKS-h100-8b hierarchy cache-layers}          # NAME or NAME=DEPLOYMENT; empty: no gates in virtual time
SEEDS=${SEEDS:-1 2 3 4 5 6 7 8}
SIM_RATE=${SIM_RATE:-5/s}
SIM_FOR=${SIM_FOR:-10m}
REBASE=${REBASE:-}                                       # 1: this night becomes the baseline
REAL_PAIRS=${REAL_PAIRS:-8}                              # 0: no gate in real time
REAL_SCENARIO=${REAL_SCENARIO:-scenarios/sustained.py}
REAL_MOCK=${REAL_MOCK:-h100-8b}
REAL_RATE=${REAL_RATE:-8}
REAL_DURATION=${REAL_DURATION:-60s}                      # 480 requests: a p99 needs 368
BASELINE_DIR=${BASELINE_DIR:-}                           # a checkout with a .venv of its own; empty: this one against itself
TARGET=${TARGET:-}                                       # a real backend; needs BUDGET
BACKEND_SCENARIO=${BACKEND_SCENARIO:-scenarios/sustained.py}
BACKEND_RATE=${BACKEND_RATE:-1}
BACKEND_DURATION=${BACKEND_DURATION:-5m}
BACKEND_SLO=${BACKEND_SLO-$SLO}
TREND_NIGHTS=${TREND_NIGHTS:-3}                          # a change to the worse that began in these last nights fails

read -ra harness <<< "$HARNESS"
if [[ -n $TARGET && -z ${BUDGET:-} ]]; then
    echo "nightly: TARGET is given without BUDGET; a real backend is loaded only with a limit in USD, like BUDGET=2" >&2
    exit 2
fi
mkdir -p "$OUT/runs" "$OUT/pages" "$OUT/junit" "$OUT/json" "$HISTORY/baseline" "$HISTORY/nights"
out=$(cd "$OUT" && pwd)

worst=0
answers=()

rank() { case $1 in 0) echo 0 ;; 3) echo 1 ;; 1) echo 2 ;; *) echo 3 ;; esac; }
word() { case $1 in 0) echo PASS ;; 3) echo INCONCLUSIVE ;; 1) echo FAIL ;; *) echo INVALID ;; esac; }

# note NAME CODE: remember an answer; codes that nobody defined count as INVALID.
note() {
    local code=$2
    [[ $code == [0-3] ]] || code=2
    answers+=("$1: $(word "$code")")
    if (($(rank "$code") > $(rank "$worst"))); then worst=$code; fi
}

# code_of COMMAND...: run it, keep its exit code in $code. A gate that says FAIL ends no script.
code_of() {
    code=0
    "$@" || code=$?
}

simulate_stack() { # NAME DEPLOYMENT: a run for each seed, into $runs
    local seed run
    runs=()
    for seed in $SEEDS; do
        run="$OUT/runs/$1-s$seed-$STAMP"
        code_of "${harness[@]}" simulate "$2" --rate "$SIM_RATE" --for "$SIM_FOR" --seed "$seed" \
            --label "series=$1" --out "$run" > "$run.txt" 2>&1
        if [[ ! -f $run/report.html ]]; then # written last
            cat "$run.txt" >&2
            return 1
        fi
        runs+=("$run")
    done
}

gate_stack() { # NAME=DEPLOYMENT or NAME
    local name=${1%%=*} deployment=${1#*=} baseline slo=()
    echo "== $name, in virtual time"
    if ! simulate_stack "$name" "$deployment"; then
        note "$name" 2
        return
    fi
    cp "${runs[0]}/report.html" "$OUT/pages/$name.html"
    "${harness[@]}" keep "${runs[@]}" --into "$HISTORY/nights" > /dev/null
    baseline="$HISTORY/baseline/$name"
    if [[ -n $REBASE ]]; then rm -rf "$baseline"; fi
    if [[ ! -d $baseline ]]; then
        "${harness[@]}" keep "${runs[@]}" --into "$baseline" > /dev/null
        echo "$name: there was no baseline; the runs of this night are it now"
        note "$name (baseline made)" 0
        return
    fi
    if [[ -n $SLO ]]; then slo=(--slo "$SLO"); fi
    code_of "${harness[@]}" gate "${runs[@]}" --baseline "$baseline" "${slo[@]}" \
        --junit "$OUT/junit/$name.xml" --json "$OUT/json/$name.json"
    if ((code == 2)); then echo "$name: after a change of the plan REBASE=1 makes a new baseline" >&2; fi
    note "$name" "$code"
}

real_run() { # VARIANT SEED: one run of the candidate or of the baseline, its directory in $run
    local -a command=("${harness[@]}")
    local at=$PWD
    run="$out/runs/real-$1-s$2-$STAMP"
    if [[ $1 == baseline && -n $BASELINE_DIR ]]; then
        at=$BASELINE_DIR
        command=(env -u HARNESS_COMMIT -u GITHUB_SHA -u CI_COMMIT_SHA "$BASELINE_DIR/.venv/bin/harness") # its commit is its own
    fi
    code=0
    (cd "$at" && "${command[@]}" run "$REAL_SCENARIO" --mock "$REAL_MOCK" --rate "$REAL_RATE" --duration "$REAL_DURATION" \
        --seed "$2" --label "series=real-$REAL_MOCK" --label "variant=$1" --out "$run") > "$run.txt" 2>&1 || code=$?
    if [[ ! -f $run/summary.json ]]; then
        cat "$run.txt" >&2
        return 1
    fi
}

# Candidate and baseline take turns, ABBA: a machine that grows slower is as slow for both.
gate_real() {
    local pair variant candidates=() baselines=() options=()
    echo "== $REAL_MOCK in real time, ${REAL_PAIRS} pairs against ${BASELINE_DIR:-itself}"
    for ((pair = 1; pair <= REAL_PAIRS; pair++)); do
        for variant in $( ((pair % 2)) && echo baseline candidate || echo candidate baseline); do
            if ! real_run "$variant" "$pair"; then
                note "real time" 2
                return
            fi
            if [[ $variant == candidate ]]; then candidates+=("$run"); else baselines+=("$run"); fi
        done
    done
    for run in "${baselines[@]}"; do options+=(--baseline "$run"); done
    code_of "${harness[@]}" gate "${candidates[@]}" "${options[@]}" --junit "$OUT/junit/real.xml" --json "$OUT/json/real.json"
    if [[ -n $BASELINE_DIR || $code == 2 ]]; then
        note "real time" "$code"
    else # the same code on both sides: one FAIL in twenty is chance, and any other says how noisy this machine is
        answers+=("real time, against itself, not counted: $(word "$code")")
    fi
    "${harness[@]}" compare "${baselines[0]}" "${candidates[0]}" --anyway -o "$OUT/pages/real-compare.html" > "$OUT/real-compare.txt"
    "${harness[@]}" keep "${candidates[@]}" --into "$HISTORY/nights" > /dev/null
}

# A real server: never without a limit to what it may cost. The key comes by HARNESS_API_KEY and stands in no output.
load_backend() {
    local run="$OUT/runs/backend-$STAMP" options=(--budget "$BUDGET")
    echo "== backend, at most $BUDGET USD"
    if [[ -n ${PRICES:-} ]]; then options+=(--prices "$PRICES"); fi
    if [[ -n ${MODEL:-} ]]; then options+=(--model "$MODEL"); fi
    if [[ -n ${ALLOW_HOST:-} ]]; then options+=(--allow-host "$ALLOW_HOST"); fi
    if [[ -n $BACKEND_SLO ]]; then options+=(--slo "$BACKEND_SLO"); fi
    code_of "${harness[@]}" run "$BACKEND_SCENARIO" --target "$TARGET" --rate "$BACKEND_RATE" --duration "$BACKEND_DURATION" \
        "${options[@]}" --any-length --label "series=backend" --out "$run"
    note backend "$code"
    if [[ -f $run/summary.json ]]; then
        if [[ -f $run/report.html ]]; then cp "$run/report.html" "$OUT/pages/backend.html"; fi
        "${harness[@]}" keep "$run" --into "$HISTORY/nights" > /dev/null
    fi
}

show_trend() {
    echo "== trend"
    code_of "${harness[@]}" trend "$HISTORY/nights" -o "$OUT/pages/trend.html" --fail-on-change "$TREND_NIGHTS"
    note trend "$code"
}

for stack in $STACKS; do gate_stack "$stack"; done
if ((REAL_PAIRS > 0)); then gate_real; fi
if [[ -n $TARGET ]]; then load_backend; fi
if [[ -n $(ls -A "$HISTORY/nights") ]]; then show_trend; fi

echo
echo "NIGHT $STAMP: $(word "$worst")"
printf '  %s\n' "${answers[@]+"${answers[@]}"}"
echo "  pages in $OUT/pages, JUnit in $OUT/junit"
exit "$worst"
