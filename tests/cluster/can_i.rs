//! What the roles allow, as `kubectl auth can-i --list` says it: line by line what the lists in `can-i/` have.
//!
//! Of each part in its own namespace and in another; by default with the token that it has, and with every value of the
//! chart turned (`every-value.yaml`) by its name. What every account may do, discovery above all, is in no list. A change
//! of a role makes this fail; where it is meant, `BERTH_CAN_I=write tests/cluster/run can_i` writes the lists anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::{Cluster, NAMESPACE, eventually, root, success};

/// Where the roles of every value are looked at, beside those that are in force.
const ASIDE: &str = "can-i";
/// How often a list is asked for before it counts: the API server hears of new roles a moment after they are made.
const LOOKS: u32 = 50;

/// What is allowed: the verbs of each kind of object, with the names that it is restricted to, if any.
type Allowed = BTreeMap<String, BTreeSet<String>>;

/// Reads what kubectl printed: a kind, addresses, names and verbs, the latter three in brackets.
fn read(listed: &str) -> Allowed {
    let mut allowed = Allowed::new();
    for line in listed.lines().skip(1) {
        let brackets: Vec<_> =
            line.split('[').skip(1).map(|part| part.split(']').next().unwrap()).collect();
        let [addresses, names, verbs] = brackets[..] else { panic!("{line}") };
        let kind = line.split_once('[').unwrap().0.trim();
        let what = [kind, addresses, names].into_iter().filter(|part| !part.is_empty());
        let what = what.collect::<Vec<_>>().join(" ");
        allowed.entry(what).or_default().extend(verbs.split_whitespace().map(str::to_owned));
    }
    allowed
}

/// Without what everybody may.
fn beyond(mut allowed: Allowed, everybody: &Allowed) -> Allowed {
    for (what, verbs) in everybody {
        if let Some(own) = allowed.get_mut(what) {
            own.retain(|verb| !verbs.contains(verb));
        }
    }
    allowed.retain(|_, verbs| !verbs.is_empty());
    allowed
}

impl Cluster {
    /// What whoever these flags make of kubectl may do in `namespace`.
    fn may(&self, who: &[String], namespace: &str) -> Allowed {
        let who: Vec<_> = who.iter().map(String::as_str).collect();
        read(&self.kubectl(&[&who[..], &["auth", "can-i", "--list", "-n", namespace]].concat()))
    }

    /// A list as it is checked in: what `who` may do in `own` and in another namespace.
    fn list(&self, who: &[String], own: &str) -> String {
        let everybody = self.may(&named("default", "default"), "default");
        let mut list = String::new();
        for (title, namespace) in [("in its namespace", own), ("in another", "default")] {
            writeln!(list, "{title}").unwrap();
            for (what, verbs) in beyond(self.may(who, namespace), &everybody) {
                let verbs = verbs.into_iter().collect::<Vec<_>>().join(" ");
                writeln!(list, "    {what:<46} {verbs}").unwrap();
            }
        }
        list
    }

    /// Fails unless the list is, within a moment, what `name` in `can-i/` says; or makes that say so.
    async fn assert_list(&self, name: &str, who: &[String], own: &str) {
        let file = root().join("tests/cluster/can-i").join(name);
        let writes = std::env::var("BERTH_CAN_I").is_ok_and(|what| what == "write");
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let looks = AtomicU32::new(0);
        let list = eventually("it is known what a part may do", async || {
            let list = self.list(who, own);
            let is_last = looks.fetch_add(1, Ordering::Relaxed) >= LOOKS;
            (is_last || (!writes && list == expected)).then_some(list)
        })
        .await;
        if writes {
            std::fs::write(&file, &list).unwrap();
        }
        assert!(
            writes || list == expected,
            "{name}: it may now do\n{list}\nand the list has\n{expected}\nIf that is meant, write the lists anew with \
             `BERTH_CAN_I=write tests/cluster/run can_i`, and say in docs/security.md why."
        );
    }
}

/// kubectl as the account of that name, without a token of it.
fn named(namespace: &str, account: &str) -> Vec<String> {
    let name = format!("--as=system:serviceaccount:{namespace}:{account}");
    let groups = ["system:serviceaccounts", "system:authenticated"];
    [name].into_iter().chain(groups.map(|group| format!("--as-group={group}"))).collect()
}

/// The roles of the chart with every value turned, as those of a release of its own.
fn roles_of_every_value() -> String {
    let values: PathBuf = root().join("tests/cluster/every-value.yaml");
    let rendered = success(
        Command::new("helm")
            .args(["template", "every", "deploy/chart", "--namespace", ASIDE, "--values"])
            .arg(values)
            .current_dir(root()),
    );
    let is_role = |one: &&str| one.contains("apiVersion: rbac.authorization.k8s.io/v1");
    rendered.split("\n---\n").filter(is_role).collect::<Vec<_>>().join("\n---\n")
}

#[tokio::test]
async fn each_part_may_do_what_its_list_says_and_nothing_else() {
    let cluster = Cluster::with_berth().await;
    let agent = cluster.agent("node-a").await.unwrap().metadata.name;

    for (part, pod) in [("node", agent), ("controller", None)] {
        let token = cluster.token(&format!("berth-{part}"), pod).await;
        let who = [format!("--token={token}")];
        cluster.assert_list(&format!("{part}.txt"), &who, NAMESPACE).await;
    }
}

#[tokio::test]
async fn each_part_may_do_what_its_list_says_with_every_value_turned() {
    let cluster = Cluster::with_berth().await;
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {ASIDE}}}}}"));
    let roles = roles_of_every_value();
    cluster.apply(&roles);

    for part in ["node", "controller"] {
        let who = named(ASIDE, &format!("every-{part}"));
        cluster.assert_list(&format!("{part}-every-value.txt"), &who, ASIDE).await;
    }

    cluster.kubectl_fed(&["delete", "--wait=false", "-f", "-"], &roles);
    cluster.kubectl(&["delete", "namespace", ASIDE, "--wait=false"]);
}

#[tokio::test]
async fn an_account_of_berths_namespace_that_is_no_part_of_it_may_do_nothing() {
    let cluster = Cluster::with_berth().await;

    let list = cluster.list(&named(NAMESPACE, "default"), NAMESPACE);

    assert_eq!(list, "in its namespace\nin another\n");
}
