# etcd and the control plane, which run in the machine's own namespaces, on the cluster's own address. Sourced.

control_plane="etcd apiserver controller-manager scheduler"

# Feature gates that `up` was told: the same for every component.
gates() { [ ! -s "$state/gates" ] || echo "--feature-gates=$(paste -sd, "$state/gates")"; }

begin_etcd() {
    local client peer; client=http://$(address 1):2379 peer=http://$(address 1):2380
    # No fsync: a test's cluster does not outlive its machine.
    begin etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer"
}

begin_apiserver() {
    begin apiserver kube-apiserver --etcd-servers "http://$(address 1):2379" \
        --bind-address "$(address 1)" --secure-port 6443 --advertise-address "$(address 1)" \
        --tls-cert-file "$state/pki/apiserver.crt" --tls-private-key-file "$state/pki/apiserver.key" \
        --service-account-issuer https://kubernetes.default.svc \
        --service-account-key-file "$state/pki/accounts.key" --service-account-signing-key-file "$state/pki/accounts.key" \
        --service-cluster-ip-range 10.96.0.0/16 --kubelet-preferred-address-types InternalIP \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --token-auth-file "$state/tokens.csv" --allow-privileged=true $(gates)
}

begin_controller-manager() {
    begin controller-manager kube-controller-manager --kubeconfig "$state/admin.kubeconfig" --secure-port 0 --leader-elect=false \
        --service-account-private-key-file "$state/pki/accounts.key" --root-ca-file "$state/pki/ca.crt" \
        --use-service-account-credentials $(gates)
}

begin_scheduler() {
    begin scheduler kube-scheduler --kubeconfig "$state/admin.kubeconfig" --secure-port 0 --leader-elect=false $(gates)
}

# Certificates of the API server, the key of service accounts' tokens, and a token for the administrator and each node.
credentials() {
    local pki=$state/pki
    openssl genrsa -out "$pki/accounts.key" 2048 2>/dev/null
    # An authority of its own: clients in Rust refuse a certificate that is its own authority.
    openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj "/CN=berth-cluster-$(number)" \
        -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout "$pki/apiserver.key" -out "$pki/apiserver.csr" 2>/dev/null
    printf 'subjectAltName=IP:%s,IP:10.96.0.1,DNS:kubernetes.default.svc\nextendedKeyUsage=serverAuth\n' "$(address 1)" |
        openssl x509 -req -days 365 -in "$pki/apiserver.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial \
            -extfile /dev/stdin -out "$pki/apiserver.crt" 2>/dev/null
    echo "administrator,admin,1,system:masters" >"$state/tokens.csv"
    kubeconfig admin administrator
    for node in $(nodes); do
        echo "token-$node,system:node:$node,$node,system:nodes" >>"$state/tokens.csv"
        kubeconfig "$node" "token-$node"
    done
}

kubeconfig() { # name, token
    cat >"$state/$1.kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: berth, cluster: {server: "https://$(address 1):6443", certificate-authority: $state/pki/ca.crt}}]
users: [{name: user, user: {token: $2}}]
contexts: [{name: berth, context: {cluster: berth, user: user}}]
current-context: berth
K
}
