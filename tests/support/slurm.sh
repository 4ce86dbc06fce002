#!/usr/bin/env bash
# Runs a command beside a SLURM of one machine with two processors, which ends with it: slurm.sh FOLDER COMMAND...
# Needs root, slurmctld and slurmd; no systemd, no munge.
set -euo pipefail

folder=$1
shift
mkdir -p -- "$folder/state" "$folder/spool"
host=$(hostname -s)
port=$((20000 + $$ % 20000))
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=5
NodeName=node NodeHostname=$host NodeAddr=127.0.0.1 CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld -D >"$folder/slurmctld.out" 2>&1 &
control=$!
slurmd -D -N node >"$folder/slurmd.out" 2>&1 &
node=$!
stop() {
    scancel --user=root 2>/dev/null || true
    kill "$node" "$control" 2>/dev/null || true
    wait "$node" "$control" 2>/dev/null || true
}
trap stop EXIT
for _ in $(seq 300); do
    [[ $(sinfo --noheader --Node --format=%T 2>/dev/null) == idle ]] && break
    sleep 0.1
done
"$@"
