#!/bin/sh
# Sort images into a folder for each label; uncertain ones go to _review/. Prints the command that undoes it.
#   examples/sort_with_review.sh FOLDER LABELS TARGET      e.g.  ~/Photos cat,dog ~/Sorted
# Images are linked, not moved: the source folder stays as it is. Add --move or --copy below to change that.
set -eu
folder=$1 labels=$2 target=$3

status=0
journal=$(zeroshot sort "$folder" --labels "$labels" --into "$target" --threshold 0.6) || status=$?
# 3: sorted, but some images could not be read; they stay where they are.
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status"
echo "to undo: zeroshot undo '$journal'"
