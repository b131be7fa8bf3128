#!/bin/sh
# Everything that is to be seen on a GPU, within eight minutes: run.sh [FOLDER [DEVICE]]. Writes gpu.json, gpu.md and
# gpu.log to FOLDER, else to $OUT, else here. Needs an NVIDIA driver and nothing else; `run.sh FOLDER emulated` runs a
# little of everything without one.
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-${OUT:-.}}
mkdir -p "$folder"
exec "$here/gpu-run" --bundle "$here" --out "$folder" --device "${2:-cuda:0}"
