#!/usr/bin/env bash
# Makes the streams and consumers of streams.yaml with the nats command line, for those who have no
# `ponix`. Safe to repeat: what is there is brought to these settings, nothing is removed. Ends with
# an error as soon as anything cannot be done.
#
#   NATS_URL=nats://127.0.0.1:4222 ./init-streams.sh
set -euo pipefail

: "${NATS_URL:=nats://127.0.0.1:4222}"
export NATS_URL
nats=${NATS_CLI:-nats}

# Fails when there is no server, which must not look like a stream that is missing.
"$nats" account info >/dev/null

# stream NAME SUBJECTS RETENTION AGE BYTES PER_SUBJECT DISCARD DESCRIPTION
stream() {
  local name=$1 subjects=$2 retention=$3 age=$4 bytes=$5 per_subject=$6 discard=$7 description=$8
  local settings=(
    --description="$description" --subjects="$subjects" --max-age="$age" --max-bytes="$bytes"
    --max-msgs-per-subject="$per_subject" --discard="$discard"
    --dupe-window=2m --replicas=1 --compression=none --allow-direct
    --no-allow-rollup --no-deny-delete --no-deny-purge
  )
  if "$nats" stream ls --names | grep -qxF "$name"; then
    "$nats" stream edit "$name" "${settings[@]}" --force
  else
    "$nats" stream add "$name" --retention="$retention" --storage=file --defaults "${settings[@]}"
  fi
}

# consumer STREAM NAME FILTER ACK_WAIT MAX_DELIVER MAX_PENDING
consumer() {
  local stream=$1 name=$2 filter=$3 wait=$4 max_deliver=$5 max_pending=$6
  local settings=(--wait="$wait" --max-deliver="$max_deliver" --max-pending="$max_pending")
  if [ -n "$filter" ]; then
    settings+=(--filter="$filter")
  fi
  if "$nats" consumer ls "$stream" --names | grep -qxF "$name"; then
    "$nats" consumer edit "$stream" "$name" "${settings[@]}" --force
  else
    "$nats" consumer add "$stream" "$name" --pull --ack=explicit --deliver=all --replay=instant \
      --defaults "${settings[@]}"
  fi
}

mib=$((1024 * 1024))

stream TELEMETRY 'telemetry.>' limits 1h $((1024 * mib)) 100000 old \
  'Readings of devices, on telemetry.{tenant_id}'
stream SHADOW 'shadow.>' limits 1h $((256 * mib)) 10000 old \
  'What is known of each device, on shadow.{tenant_id}.{device_id}'
stream COMMANDS 'commands.>' limits 1h $((256 * mib)) 10000 old \
  'What devices are told, on commands.{tenant_id}.{device_id}'
stream ROUTES 'routes.>' work 24h $((512 * mib)) -1 new \
  'Deliveries to other systems, each done once'

consumer TELEMETRY ingest-workers 'telemetry.>' 30s 3 1000
consumer SHADOW ingest-shadow '' 30s -1 1000
consumer COMMANDS ingest-commands '' 30s -1 1000
consumer ROUTES route-delivery 'routes.>' 30s 3 100
