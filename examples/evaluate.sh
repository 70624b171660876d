#!/bin/sh
# Measure accuracy on a folder whose subfolders are labels, and fail below a bar: for CI.
#   examples/evaluate.sh FOLDER [ACCURACY]      e.g.  ./val 0.8
# Exit codes: 0 reached, 1 not reached or another error, 2 wrong usage, 3 reached, but some images could not be read.
set -eu
folder=$1 bar=${2:-0.8}

exec zeroshot eval "$folder" --fail-under "top1=$bar" --report report.html --output result.json
