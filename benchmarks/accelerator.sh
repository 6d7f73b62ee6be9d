#!/usr/bin/env bash
# Measures everything on a machine with a GPU, from a bare checkout, in under nine minutes:
#
#     RESULTS=folder [WHEELS=folder] [SECONDS_IN_ALL=530] bash benchmarks/accelerator.sh
#
# JAX with CUDA, Flax, Optax, Orbax and PyTorch must be installed. Other missing packages come from WHEELS, a
# folder of .whl files. Each part has its own process and time limit, and writes RESULTS/NAME.json;
# report.json and report.md are updated after each part. The same command with the same RESULTS continues with the
# remaining parts. To try it on a CPU: BATCHES="2 4 8" FLAGS="--config.model.width=16 --config.sampling.steps=2 --calls=1".
set -uo pipefail
cd "$(dirname "$0")/.."
results=${RESULTS:?is the folder to write to}
python=${PYTHON:-python3}
config=${CONFIG:-configs/res_res.py}
read -ra batches <<< "${BATCHES:-32 128 256}"
read -ra flags <<< "${FLAGS:-}"
end=$((SECONDS + ${SECONDS_IN_ALL:-530}))
mkdir -p "$results"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [[ -n ${WHEELS:-} ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$results/packages" "$WHEELS"/*.whl || exit 1
    PYTHONPATH=$PYTHONPATH:$results/packages
fi

child=
trap '[[ -n $child ]] && kill "$child"; exit 143' TERM INT

# part NAME LIMIT MODULE [FLAG ...]: one measurement, for at most LIMIT seconds.
part() {
    local name=$1 limit=$2 module=$3 left=$((end - SECONDS)) status
    shift 3
    [[ $(cat "$results/$name.status" 2> /dev/null) == done ]] && return
    if ((left < 2)); then
        echo "no time left" > "$results/$name.status"
    else
        ((limit < left)) || limit=$left
        echo "stopped" > "$results/$name.status"
        timeout --kill-after=5 "$limit" "$python" -m "benchmarks.$module" "$@" --json "$results/$name.part" \
            > "$results/$name.log" 2>&1 &
        child=$!
        wait "$child"
        status=$?
        child=
        [[ -f $results/$name.part ]] && mv "$results/$name.part" "$results/$name.json"
        case $status in
            0) echo "done" ;;
            124 | 137) echo "stopped after $limit s" ;;
            *) echo "failed: $(tail -n 1 "$results/$name.log")" ;;
        esac > "$results/$name.status"
    fi
    echo "$name: $(cat "$results/$name.status")"
    "$python" -m benchmarks.accelerator_report "$results"
}

train() { # BATCH DTYPE
    part "train_$2_$1" 110 train_step --config "$config" --batch "$1" --dtype "$2" "${flags[@]}"
}

middle=${batches[1]}
for batch in "$middle" "${batches[0]}" "${batches[2]}"; do train "$batch" bfloat16; done
train "$middle" float32
for solver in ddim dpmpp_2m; do
    part "sample_$solver" 80 sample --config "$config" --batch "${batches[0]}" --dtype bfloat16 \
        --config.sampling.solver="$solver" "${flags[@]}"
done
part features 50 features --images "${IMAGES:-4096}" --batch_size "${FEATURES_BATCH:-256}"
part against_pytorch 150 against_pytorch --config "$config" --batch "${batches[0]}" --dtype bfloat16 \
    --compile "${flags[@]}"
part parity 60 parity --config "$config" --batch 4 "${flags[@]}"
for batch in "${batches[0]}" "${batches[2]}"; do train "$batch" float32; done
