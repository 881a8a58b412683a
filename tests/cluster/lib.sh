# What the verbs of this folder share: where things are, and daemons that are started and surely ended. Sourced.
#
#   BERTH_CLUSTER        where compiled programs are kept            [~/.cache/berth-cluster]
#   BERTH_CLUSTER_STATE  one cluster's state, logs and kubeconfig    [target/cluster/default]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
programs=${BERTH_CLUSTER:-${XDG_CACHE_HOME:-$HOME/.cache}/berth-cluster}
state=${BERTH_CLUSTER_STATE:-$project/target/cluster/default}
export BERTH_CLUSTER_STATE=$state
export PATH=$programs/bin:$PATH:/usr/sbin:/sbin

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# A cluster's number makes its names and addresses its own, so that several run side by side.
number() { cat "$state/number"; }
address() { echo "10.77.$(number).$1"; } # 1 is the control plane, 11, 12, ... are the nodes
bridge() { echo "berth$(number)"; }
netns() { echo "berth$(number)-$1"; }
veth() { echo "berth$(number)v$(index "$1")"; }
nodes() { cat "$state/nodes"; }
index() { grep -nx -- "$1" "$state/nodes" | cut -d: -f1; }
administrator() { kubectl --kubeconfig "$state/admin.kubeconfig" "$@"; }

# until_true SECONDS COMMAND...: repeats the command until it succeeds.
until_true() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

# begin NAME COMMAND...: a daemon in a session of its own; its id in pids/NAME, its output in log/NAME.log.
begin() {
    local name=$1; shift
    ! running "$name" || fail "$name runs already"
    setsid "$@" >>"$state/log/$name.log" 2>&1 </dev/null &
    echo $! >"$state/pids/$name"
}

# The id is believed only while the process carries this cluster's mark: numbers are given out again.
running() {
    local pid; pid=$(cat "$state/pids/$1" 2>/dev/null) || return 1
    { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | grep -qFx "BERTH_CLUSTER_STATE=$state"
}
ended() { ! running "$1"; }

# end NAME [SIGNAL]: ends a daemon with all that it started, and returns when it is gone.
end() {
    if running "$1"; then
        kill -"${2:-KILL}" -- "-$(cat "$state/pids/$1")" 2>/dev/null || true
        until_true 30 ended "$1" || fail "$1 does not end"
    fi
    rm -f "$state/pids/$1"
}
