#!/bin/sh
# Classify a folder of photographs, such as one copied from a phone, into a CSV file.
#   examples/classify_to_csv.sh FOLDER LABELS [FILE.csv]      e.g.  ~/Phone cat,dog,food,document
# If it is interrupted, run it again with the same arguments: it continues. For images that came after a finished run,
# use --append instead of --resume below.
set -eu
folder=$1 labels=$2 table=${3:-labels.csv}

status=0
zeroshot classify "$folder" --labels "$labels" --threshold 0.5 --output "$table" --resume || status=$?
# 3: complete, but some images could not be read; they have a message in the column "error".
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status"
echo "wrote $table"
