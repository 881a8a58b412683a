# A node: containerd, the kubelet and kube-proxy in a network, mount, UTS and PID namespace of its own. Sourced.
#
# /mnt, /run, /var/log, /var/lib/kubelet, /var/lib/containerd and /var/lib/berth are the node's own. To end its process 1 is
# to cut its power: what it had mounted is gone, what lies in its directories stays.

node_address() { address $((10 + $(index "$1"))); }
pod_subnet() { echo "10.88.$((16 * $(number) + $(index "$1"))).0/24"; }

begin_node() {
    local node=$1 directory=$state/$1
    mkdir -p "$directory"/{kubelet,containerd,mnt,berth,log,cni}
    network "$node"
    configure_containerd "$node" >"$directory/containerd.toml"
    configure_cni "$node" >"$directory/cni/10-bridge.conflist"
    configure_kubelet >"$directory/kubelet.yaml"
    # Not `ip netns exec`, which mounts another /sys without the cgroups that the kubelet needs.
    begin "$node" nsenter --net="/run/netns/$(netns "$node")" unshare --mount --uts --pid --fork --kill-child \
        "$here/node-init" "$node" "$(node_address "$node")"
}

end_node() {
    end "$1"
    ip netns del "$(netns "$1")" 2>/dev/null || true
    ip link del "$(veth "$1")" 2>/dev/null || true
    # Containers that died with their node leave their control groups behind, which are the machine's.
    for container in "$state/$1"/containerd/io.containerd.grpc.v1.cri/{containers,sandboxes}/*; do
        find /sys/fs/cgroup -depth -type d -path "*/k8s.io/${container##*/}*" -exec rmdir {} + 2>/dev/null || true
    done
}

network() {
    local namespace veth; namespace=$(netns "$1") veth=$(veth "$1")
    ip netns add "$namespace"
    ip link add "$veth" type veth peer name eth0 netns "$namespace"
    ip link set "$veth" master "$(bridge)" up
    ip -n "$namespace" addr add "$(node_address "$1")/24" dev eth0
    ip -n "$namespace" link set eth0 up
    ip -n "$namespace" link set lo up
    ip -n "$namespace" route add default via "$(address 1)"
    ip route replace "$(pod_subnet "$1")" via "$(node_address "$1")"
}

configure_containerd() {
    cat <<K
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "berth.test/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  # For machines on which root lacks CAP_SYS_RESOURCE, as in many containers.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$programs/cni"]
    conf_dir = "$state/$1/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "$programs/bin/runc"
K
}

configure_cni() {
    cat <<K
{"cniVersion": "1.0.0", "name": "berth", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam",
           "ranges": [[{"subnet": "$(pod_subnet "$1")"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
K
}

configure_kubelet() {
    # failCgroupV1: some machines still mount the version 1 hierarchies. No evictions and no
    # collection of images: the disk is the machine's, however full it is, and nothing is pulled a second time.
    cat <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
evictionHard: {memory.available: 1Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumeStatsAggPeriod: 5s
K
    if [ -s "$state/gates" ]; then
        echo featureGates:
        sed 's/^/  /; s/=/: /' "$state/gates"
    fi
}
