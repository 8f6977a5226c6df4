#!/bin/bash
# Prometheus' targets: the workers of worker.sbatch that run now, each with the port that its --health line gives it.
#
#     targets.sh > targets/slurm.new && mv targets/slurm.new targets/slurm.json      # every minute, by cron
#
# `file_sd_configs` of Prometheus reads that folder. A job that has ended is not in it any more.
squeue --noheader --name="${1:-worker-state}" --states=RUNNING --format="%N %A" | awk '
    { targets = targets separator "\"" $1 ":" 20000 + $2 % 10000 "\""; separator = ", " }
    END { print "[{\"targets\": [" targets "]}]" }'
