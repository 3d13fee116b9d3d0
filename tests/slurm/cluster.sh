# shellcheck shell=bash
# cluster.sh: a Slurm cluster of two nodes with four GPUs each, on this machine, for a test that sources it.
#
#   cluster_missing          prints why there can be none; nothing when there can
#   cluster_start FOLDER     starts munged, slurmctld and two slurmd in FOLDER, and sets SLURM_CONF
#   cluster_stop             ends them
#
# Everything is in FOLDER and on ports of its own: a Slurm that is installed and running here is not touched. The GPUs
# are character devices (copies of /dev/null).

cluster_missing() {
    local program
    for program in munged slurmctld slurmd sbatch srun scontrol; do
        command -v "$program" >/dev/null || {
            echo "Slurm is not installed: no $program (Debian: slurmctld slurmd slurm-client munge)"
            return
        }
    done
    [ "$(id -u)" -eq 0 ] || {
        echo "starting a Slurm cluster needs root"
        return
    }
    local probe
    probe=$(mktemp -u)
    mknod "$probe" c 1 3 2>/dev/null || echo "this container does not let root make devices (mknod)"
    rm -f "$probe"
}

cluster_configure() {
    local host base port
    host=$(hostname -s)
    # Ports of this process alone, below the ephemeral range.
    base=$((20000 + $$ % 600 * 20))
    cat >"$1/slurm.conf" <<CONF
ClusterName=lwmpi
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until the credentials of its first run have expired, two minutes by default.
AuthInfo=socket=$1/munge.socket,cred_expire=15
SlurmctldPort=$base
SlurmctldPidFile=$1/slurmctld.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdPidFile=$1/slurmd-%n.pid
SlurmdLogFile=$1/slurmd-%n.log
StateSaveLocation=$1/state
# A folder for each node: two nodes of one machine would meet in each other's PMIx sockets.
SlurmdSpoolDir=$1/spool-%n
TmpFS=$1/tmp-%n
SrunPortRange=$((base + 4))-$((base + 19))
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MpiDefault=none
ReturnToService=2
# The machine is smaller than the nodes that it plays.
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=20
InactiveLimit=0
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 1)) CPUs=64 RealMemory=500000 Gres=gpu:4
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 2)) CPUs=64 RealMemory=500000 Gres=gpu:4
PartitionName=test Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
    for port in 0 1 2 3; do
        mknod "$1/gpu$port" c 1 3
    done
    echo "NodeName=n[1-2] Name=gpu File=$1/gpu[0-3]" >"$1/gres.conf"
}

cluster_start() {
    cluster=$1
    mkdir -p "$cluster"/{state,spool-n1,spool-n2,tmp-n1,tmp-n2}
    chmod 700 "$cluster"
    cluster_configure "$cluster"
    head -c 1024 /dev/urandom >"$cluster/munge.key"
    chmod 600 "$cluster/munge.key"
    munged --force --socket="$cluster/munge.socket" --key-file="$cluster/munge.key" --pid-file="$cluster/munged.pid" \
        --log-file="$cluster/munged.log" --seed-file="$cluster/munge.seed" || return 1
    export SLURM_CONF="$cluster/slurm.conf"
    slurmctld -f "$SLURM_CONF" || return 1
    local node
    for node in n1 n2; do
        slurmd -N "$node" -f "$SLURM_CONF" || return 1
    done
    for _ in $(seq 60); do
        [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    sinfo -N 2>&1
    tail -5 "$cluster"/*.log
    return 1
}

cluster_stop() {
    [ -n "${cluster:-}" ] || return 0
    scancel -u root 2>/dev/null
    for _ in $(seq 50); do
        [ -z "$(squeue -h 2>/dev/null)" ] && break
        sleep 0.5
    done
    scontrol shutdown >/dev/null 2>&1
    local file pid
    for file in "$cluster"/slurmd-n1.pid "$cluster"/slurmd-n2.pid "$cluster"/slurmctld.pid "$cluster"/munged.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        kill -9 "$pid" 2>/dev/null
    done
    cluster=
}
