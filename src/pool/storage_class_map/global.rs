//! The keys beside the classes. None of them changes a pool: each is about objects or habits that Berth does not have.

use super::Line;
use super::raw::{self, Global};
use crate::pool::config::Problem;

/// A key, when a person should read what is said of it, and what is said.
struct Known {
    key: &'static str,
    warns: Warns,
    text: &'static str,
}

/// When a person should read of a key.
enum Warns {
    Never,
    Always,
    /// Where it is switched on.
    On,
}

const KNOWN: [Known; 10] = [
    Known {
        key: "nodeLabelsForPV",
        warns: Warns::Always,
        text: "PersistentVolumes get no labels: external-provisioner makes them for their claims. Choose nodes by the StorageClass's allowedTopologies or by the pods' own selectors",
    },
    Known {
        key: "labelsForPV",
        warns: Warns::Always,
        text: "PersistentVolumes get no labels: external-provisioner makes them for their claims. Claims that select by label have to name a StorageClass instead",
    },
    Known {
        key: "setPVOwnerRef",
        warns: Warns::On,
        text: "PersistentVolumes have no owner: the controller removes the free volumes of a Node that is gone, and keeps claimed ones as Lost",
    },
    Known {
        key: "useJobForCleaning",
        warns: Warns::Never,
        text: "no Jobs: the agent wipes, so many volumes at once as --wipes says",
    },
    Known {
        key: "jobTolerations",
        warns: Warns::Never,
        text: "no Jobs, and so no tolerations of theirs: the agent wipes",
    },
    Known {
        key: "minResyncPeriod",
        warns: Warns::Never,
        text: "no resync: changes are heard of at once, and --rescan looks at everything as a net",
    },
    Known {
        key: "useNodeNameOnly",
        warns: Warns::Never,
        text: "volumes belong to the Node's name, and a volume is known by its own fingerprint",
    },
    Known {
        key: "useAlphaAPI",
        warns: Warns::On,
        text: "no annotation of Kubernetes before 1.10 is made",
    },
    Known {
        key: "removeNodeNotReadyTaint",
        warns: Warns::On,
        text: "the agent removes the taint berth.dev/agent-not-ready by itself; new Nodes have to carry that one",
    },
    Known {
        key: "provisionerNotReadyNodeTaintKey",
        warns: Warns::Always,
        text: "the taint that the agent removes is berth.dev/agent-not-ready; new Nodes have to carry that one",
    },
];

/// Whether the provisioner has such a key.
pub(super) fn is_known(key: &str) -> bool {
    KNOWN.iter().any(|known| known.key == key)
}

/// What becomes of a key.
pub(super) fn line(global: &Global) -> Result<Line, Problem> {
    let Global { key, value } = global;
    let problem = |message| raw::problem(raw::place(value), key.clone(), message);
    let known = KNOWN.iter().find(|known| known.key == key).ok_or_else(|| {
        let keys: Vec<_> = KNOWN.iter().map(|known| known.key).collect();
        problem(format!(
            "the static provisioner has no such key; its keys are storageClassMap, {}",
            keys.join(", ")
        ))
    })?;
    let is_warning = match known.warns {
        Warns::Never => false,
        Warns::Always => true,
        Warns::On => is_on(&value.value).map_err(problem)?,
    };
    Ok(Line { key: key.clone(), text: known.text.to_owned(), is_warning })
}

/// What the provisioner takes for a truth value.
fn is_on(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" | "" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
