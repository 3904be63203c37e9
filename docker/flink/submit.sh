#!/bin/sh
# Submits a run to a session cluster: submit.sh CONFIG.toml OUT [SAVEPOINT]
# FLINK is the address of its REST port, PARALLELISM the number of slots to use.
# Not yet available: `headrace stream` does not start on clusters. docs/deploy-flink.md has why
# each of the flags is needed.
set -eu
config=$1 out=$2
: "${FLINK:=http://localhost:8081}" "${PARALLELISM:=4}"

set -- \
    --runner=FlinkRunner \
    --flink_master="$FLINK" \
    --flink_version=1.20 \
    --flink_submit_uber_jar \
    --streaming \
    --parallelism="$PARALLELISM" \
    --environment_type=EXTERNAL \
    --environment_config=127.0.0.1:50000 \
    --checkpointing_interval=2000 \
    --finish_bundle_before_checkpointing \
    --max_bundle_time_mills=10 \
    --externalized_checkpoints_enabled \
    --retain_externalized_checkpoints_on_cancellation \
    --no_save_main_session \
    ${3:+--savepoint_path="$3"}

exec headrace stream "$config" --out "$out" -- "$@"
