//! The chart and what is rendered from it.

use crate::harness::{Cluster, root, script, success};

#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    let committed = std::fs::read_to_string(root().join("deploy/berth.yaml")).unwrap();

    let rendered = success(&mut script("render"));

    assert!(
        rendered == committed,
        "deploy/berth.yaml is not what the chart renders: run `make manifests`"
    );
}

#[tokio::test]
async fn the_api_server_takes_every_object_without_a_warning() {
    let cluster = Cluster::with_berth().await;
    for values in [&[][..], &["-f", "tests/cluster/every-value.yaml"]] {
        let manifests = success(script("render").args(values));

        let taken = cluster.kubectl_fed(
            &["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"],
            &manifests,
        );

        assert_eq!(taken.lines().count(), manifests.matches("\nkind: ").count(), "{taken}");
    }
}

#[tokio::test]
async fn a_second_installation_changes_nothing() {
    let cluster = Cluster::with_berth().await;
    let manifests = success(script("render").args(["-f", "tests/cluster/values.yaml"]));
    let before = cluster.kubectl_fed(
        &["get", "--output=yaml", "--show-managed-fields=false", "-f", "-"],
        &manifests,
    );

    cluster.apply(&manifests);

    let after = cluster.kubectl_fed(
        &["get", "--output=yaml", "--show-managed-fields=false", "-f", "-"],
        &manifests,
    );
    let generations = |text: &str| {
        text.lines()
            .filter(|line| line.trim_start().starts_with("generation:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(generations(&before), generations(&after));
}
