#!/usr/bin/env bash
# The whole comparison on a GPU: in f32, f16 and bf16, with burn's LSTM and with cuDNN, at the
# standard sizes and at the published one, with each rung of the kernels. `--help` says how.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: benchmarks/gpu.sh [--backend cuda|vulkan|wgpu|flex] [FOLDER]

Writes JSON lines, what the program said, and the table (table.md) into FOLDER
[default: benchmarks/results-DATE]. Ends with 1 if any part failed; the rest is there.

Environment:
  PROGRAM     a benchmark program that is already built with the backend
  PYTHON      a Python with torch [default: python3, or else a virtual environment with one,
              benchmarks/venv]
  DTYPES      [default: "f32 f16 bf16"]
  SETS        "standard", "published" or both [default: both]
  SIZES       other sizes than the standard ones, such as "3,7,5,11 8,32,32,32"
  RUNGS       [default: "chosen stepwise persistent"; on a CPU "chosen"]
  PAIRS       pairs of timings for rungs as chosen [default: 15]
  RUNG_PAIRS  pairs with a rung fixed [default: 6]
  LIMIT       seconds that one part may take [default: 1800]
TEXT
}

fail() {
    echo "gpu.sh: $1" >&2
    exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
backend=cuda
folder=
while (($#)); do
    case $1 in
    -h | --help)
        usage
        exit
        ;;
    --backend)
        (($# > 1)) || fail "--backend: expected a name, found nothing"
        backend=$2
        shift
        ;;
    -*) fail "expected --backend NAME or a folder, found $1" ;;
    *)
        [[ -z $folder ]] || fail "expected one folder, found $folder and $1"
        folder=$1
        ;;
    esac
    shift
done
case $backend in
cuda | vulkan | wgpu) rungs=${RUNGS:-chosen stepwise persistent} on_gpu=yes ;;
flex) rungs=${RUNGS:-chosen} on_gpu=no ;;
*) fail "--backend: expected cuda, vulkan, wgpu or flex, found $backend" ;;
esac
folder=${folder:-$here/results-$(date +%Y-%m-%d-%H%M%S)}

read -ra dtypes <<<"${DTYPES:-f32 f16 bf16}"
read -ra sets <<<"${SETS:-standard published}"
read -ra rungs <<<"$rungs"
read -ra sizes <<<"${SIZES:-}"
failed=()

compgen -G "$folder/*.jsonl" >/dev/null &&
    fail "$folder: expected a folder without results, found those of another run"

# Kernels for CUDA are linked with a library of the toolkit, which the driver does not bring.
if [[ $backend == cuda ]]; then
    library=
    for root in "${CUDA_PATH:-}" /usr/local/cuda /opt/cuda /usr/lib/cuda /usr; do
        [[ -z $root || ! -e $root/nvvm/libdevice/libdevice.10.bc ]] || library=$root
    done
    [[ -n $library ]] ||
        fail "expected the CUDA toolkit (nvvm/libdevice), found none: install it, or set CUDA_PATH"
fi

# The program.
program=${PROGRAM:-}
if [[ -z $program ]]; then
    command -v cargo >/dev/null || fail "expected cargo, found none: https://rustup.rs"
    if [[ $backend == cuda ]]; then
        command -v "${CXX:-c++}" >/dev/null || fail "expected a C++ compiler, found no ${CXX:-c++}"
    fi
    cargo build --release --manifest-path "$here/Cargo.toml" --features "$backend"
    program=${CARGO_TARGET_DIR:-$here/../target}/release/scratch-benchmarks
fi
[[ -x $program ]] || fail "expected a program, found nothing that can be run at $program"
mkdir -p "$folder"

# PyTorch: that which is there, or one of our own.
python=${PYTHON:-}
if [[ -z $python ]] && python3 -c 'import torch' 2>/dev/null; then
    python=python3
elif [[ -z $python ]]; then
    python=$here/venv/bin/python
    if ! "$python" -c 'import torch' 2>/dev/null; then
        python3 -m venv "$here/venv" && "$python" -m pip install --quiet torch ||
            echo "gpu.sh: PyTorch could not be installed" >&2
    fi
fi
torch=
if [[ $on_gpu == no ]]; then
    can='import torch'
    torch_peer=pytorch
else
    can='import torch; torch.cuda.init()'
    torch_peer=cudnn
fi
if why=$("$python" -c "$can" 2>&1); then
    torch=$torch_peer
else
    why=${why##*$'\n'}
    echo "gpu.sh: without $torch_peer: $why" >&2
    if [[ $backend == cuda || $on_gpu == no ]]; then
        failed+=("$torch_peer, by $python: $why")
    fi
fi

# Whom to compare with, by type and rung: with a rung fixed, one peer will do.
peers() {
    local dtype=$1 rung=$2
    if [[ $rung != chosen ]]; then
        echo "--peer ${torch:-burn}"
        return
    fi
    local flags="--peer burn"
    [[ -z $torch ]] || flags+=" --peer $torch"
    [[ $torch != cudnn || $dtype != f32 ]] || flags+=" --peer cudnn-tf32"
    echo "$flags"
}

# One run of the program: its lines, and what it said.
part() {
    local dtype=$1 set=$2 rung=$3
    local name=$dtype-$set-$rung
    local flags=(--json --backend "$backend" --python "$python" --dtype "$dtype")
    local with=(env -u SCRATCH_LSTM_GPU_RUNG)
    local peer_flags size
    read -ra peer_flags <<<"$(peers "$dtype" "$rung")"
    flags+=("${peer_flags[@]}")
    if [[ $rung == chosen ]]; then
        flags+=(--pairs "${PAIRS:-15}")
    else
        flags+=(--pairs "${RUNG_PAIRS:-6}")
        with=(env "SCRATCH_LSTM_GPU_RUNG=$rung")
    fi
    if [[ $set == published ]]; then
        flags+=(--published)
    else
        for size in ${sizes[@]+"${sizes[@]}"}; do
            flags+=(--size "$size")
        done
    fi
    echo "$name ..."
    local code=0
    "${with[@]}" timeout --foreground -k 30 "${LIMIT:-1800}" "$program" "${flags[@]}" \
        >"$folder/$name.jsonl" 2>"$folder/$name.log" || code=$?
    if ((code)); then
        local why
        why=$(grep '^error: ' "$folder/$name.log" | tail -n 1 || true)
        why=${why:-$(tail -n 1 "$folder/$name.log")}
        failed+=("$name (exit code $code): $why")
        echo "  failed: $why" >&2
    fi
}

for dtype in "${dtypes[@]}"; do
    for rung in "${rungs[@]}"; do
        for set in "${sets[@]}"; do
            part "$dtype" "$set" "$rung"
        done
    done
done

# The table needs no torch: any Python will do.
[[ -x $(command -v "$python") ]] || python=python3
table=$folder/table.md
if ! "$python" "$here/table.py" "$folder" >"$table"; then
    failed+=("the table")
fi
if ((${#failed[@]})); then
    {
        printf '\n## Parts that failed\n\n'
        printf -- '- %s\n' "${failed[@]}"
    } >>"$table"
fi
cat "$table"
echo
echo "results: $folder"
((${#failed[@]} == 0))
