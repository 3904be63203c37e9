#!/bin/sh
# Submits a run to a session cluster: submit.sh CONFIG.toml OUT [SAVEPOINT]
# FLINK is the address of its REST port, PARALLELISM the number of slots to use.
# docs/deploy-flink.md has why each of the flags is needed; headrace sets some more.
set -eu
config=$1 out=$2
: "${FLINK:=http://localhost:8081}" "${PARALLELISM:=4}"

set -- \
    --flink_master="$FLINK" \
    --flink_version=1.20 \
    --flink_submit_uber_jar \
    --parallelism="$PARALLELISM" \
    --environment_type=EXTERNAL \
    --environment_config=127.0.0.1:50000 \
    --checkpointing_interval=2000 \
    --max_bundle_time_mills=10 \
    --externalized_checkpoints_enabled \
    --retain_externalized_checkpoints_on_cancellation \
    ${3:+--savepoint_path="$3"}

exec headrace stream "$config" --out "$out" --runner flink -- "$@"
