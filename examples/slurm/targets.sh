#!/bin/bash
# Prometheus' targets: the workers of worker.sbatch that run now, each with the port that its --health line gives it.
#
#     targets.sh > targets.new && mv targets.new targets.json      # every minute, by cron; file_sd_configs reads it
squeue --noheader --name="${1:-worker-state}" --states=RUNNING --format="%N %A" | awk '
    { targets = targets separator "\"" $1 ":" 20000 + $2 % 10000 "\""; separator = ", " }
    END { print "[{\"targets\": [" targets "], \"labels\": {\"job\": \"worker\"}}]" }'
