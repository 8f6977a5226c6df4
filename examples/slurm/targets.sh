#!/bin/bash
# Prometheus' targets: the jobs of worker.sbatch that run now, each with the port that its --health line gives it. They
# are known by their name, worker-state (`bash targets.sh NAME` for another one).
#
#     bash targets.sh > targets/slurm.new && mv targets/slurm.new targets/slurm.json      # every minute, by cron
#
# `file_sd_configs` of Prometheus reads that folder. A job that has ended is not in it any more.
squeue --noheader --name="${1:-worker-state}" --states=RUNNING --format="%N %A" | awk '
    { targets = targets separator "\"" $1 ":" 20000 + $2 % 10000 "\""; separator = ", " }
    END { print "[{\"targets\": [" targets "]}]" }'
