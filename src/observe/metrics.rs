//! The metrics of a process, named and typed as Prometheus asks. Any part may hold a clone and report to it.
//!
//! Labels are bounded: pools, methods, codes, outcomes and phases; never a volume, a claim or a path, of which there is
//! no end. Durations are in seconds, sizes in bytes. Label values are written by [`crate::volume`]'s types or by our own
//! sources, never by a caller.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::gauges::Gauges;
use super::problems::{Counts, Problems};
use super::process::Process;
use crate::inventory::Event;
use crate::volume::{PoolName, Wipe, WipeResult};

/// Upper bounds in seconds for a call: from 0.1 ms, where an answer from memory lies, to the kubelet's time-out.
const CALL_BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0, 120.0];
/// Upper bounds in seconds for a scan of every pool.
const SCAN_BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Upper bounds in seconds for a wipe: from one small file to a day of shredding.
const WIPE_BOUNDS: [f64; 12] =
    [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0];

/// Labels with their values.
type Labels<const N: usize> = [(&'static str, String); N];
/// Counters that differ in labels.
type Counters<const N: usize> = Family<Labels<N>, Counter>;
/// Histograms that differ in labels.
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Every metric of this process. Clones share their numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    calls: Calls,
    wipes: Wipes,
    scans: Scans,
    config: Config,
    gauges: Gauges,
    problems: Problems,
}

/// How a wipe ended, as a label.
fn outcome(result: WipeResult) -> &'static str {
    match result {
        WipeResult::Wiped | WipeResult::LeftAsIs => "done",
        WipeResult::Failed => "failed",
        WipeResult::VerifyFailed => "verify_failed",
        WipeResult::Interrupted => "interrupted",
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        // At the top, without our prefix: dashboards and alerts know these names.
        registry.register_collector(Box::new(Process));
        let ours = registry.sub_registry_with_prefix("berth");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ours.register("build", "The version of this binary", Info::new(version));
        let calls = Calls::register(ours);
        let wipes = Wipes::register(ours);
        let scans = Scans::register(ours);
        let config = Config::register(ours);
        let gauges = Gauges::default();
        ours.register_collector(Box::new(gauges.clone()));
        let problems = Problems::default();
        ours.register_collector(Box::new(problems.clone()));
        Self(Arc::new(Inner { registry, calls, wipes, scans, config, gauges, problems }))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A wipe ended.
    pub fn wiped(&self, pool: &PoolName, wipe: &Wipe, took: Duration) {
        let wipes = &self.0.wipes;
        let (pool, method) =
            (("pool", pool.to_string()), ("method", wipe.method.name().to_owned()));
        let outcome = ("outcome", outcome(wipe.result).to_owned());
        let of = [pool.clone(), method.clone()];
        wipes.seconds.get_or_create(&of).observe(took.as_secs_f64());
        wipes.bytes.get_or_create(&of).inc_by(wipe.bytes.0);
        wipes.entries.get_or_create(&of).inc_by(wipe.entries);
        wipes.total.get_or_create(&[pool, method, outcome]).inc();
    }

    /// A scan of every pool ended.
    pub fn scanned(&self, took: Duration, candidates: usize) {
        let scans = &self.0.scans;
        scans.seconds.observe(took.as_secs_f64());
        scans.candidates.set(i64::try_from(candidates).unwrap_or(i64::MAX));
    }

    /// What the last scan found that is not offered, or not as its pool says.
    pub fn problems(&self, counts: Counts) {
        self.0.problems.set(counts);
    }

    /// A gRPC call was answered with `code`, in the spelling of the gRPC specification (`OK`, `NOT_FOUND`).
    ///
    /// What is not implemented is counted under the method `other`: the name is then whatever the caller made up.
    pub fn called(&self, method: &str, code: &'static str, took: Duration) {
        let method = if code == "UNIMPLEMENTED" { "other" } else { method };
        let method = ("method", method.to_owned());
        let calls = &self.0.calls;
        calls.total.get_or_create(&[method.clone(), ("code", code.to_owned())]).inc();
        calls.seconds.get_or_create(&[method]).observe(took.as_secs_f64());
    }

    /// The configuration was read at the start, or again because it had changed; `seconds_since_epoch` is now.
    pub fn configured(&self, taken: bool, seconds_since_epoch: f64) {
        let config = &self.0.config;
        config.success.set(i64::from(taken));
        if taken {
            config.last_success.set(seconds_since_epoch);
        }
    }

    /// The inventory told of a change; see [`super::gauges::follow`].
    pub fn recorded(&self, event: &Event) {
        self.0.gauges.apply(event);
    }

    /// Everything, as text in the OpenMetrics format 1.0.
    pub fn render(&self) -> String {
        let mut page = String::new();
        match text::encode(&mut page, &self.0.registry) {
            Ok(()) => page,
            // Writing to a string does not fail and no collector of ours refuses; a scrape without the end marker is
            // rejected by Prometheus as incomplete, which would say so.
            Err(fmt::Error) => String::new(),
        }
    }
}

struct Calls {
    total: Counters<2>,
    seconds: Histograms<1>,
}

impl Calls {
    fn register(registry: &mut Registry) -> Self {
        let total = Counters::default();
        let help = "gRPC calls answered, by method and code";
        registry.register("grpc_calls", help, total.clone());
        let seconds: Histograms<1> = Family::new_with_constructor(|| Histogram::new(CALL_BOUNDS));
        let help = "How long gRPC calls took, by method";
        registry.register_with_unit("grpc_call_duration", help, Unit::Seconds, seconds.clone());
        Self { total, seconds }
    }
}

struct Wipes {
    total: Counters<3>,
    seconds: Histograms<2>,
    bytes: Counters<2>,
    entries: Counters<2>,
}

impl Wipes {
    fn register(registry: &mut Registry) -> Self {
        let total = Counters::default();
        let help = "Wipes that ended, by pool, method and outcome: done, failed, verify_failed or interrupted";
        registry.register("wipes", help, total.clone());
        let seconds: Histograms<2> = Family::new_with_constructor(|| Histogram::new(WIPE_BOUNDS));
        let help = "How long wipes took, however they ended";
        registry.register_with_unit("wipe_duration", help, Unit::Seconds, seconds.clone());
        let bytes = Counters::default();
        let help = "Bytes of devices that wipes overwrote or discarded, in all passes";
        registry.register_with_unit("wiped", help, Unit::Bytes, bytes.clone());
        let entries = Counters::default();
        registry.register("wiped_entries", "Directory entries that wipes removed", entries.clone());
        Self { total, seconds, bytes, entries }
    }
}

struct Scans {
    seconds: Histogram,
    candidates: Gauge,
}

impl Scans {
    fn register(registry: &mut Registry) -> Self {
        let seconds = Histogram::new(SCAN_BOUNDS);
        let help = "How long scans of every pool took";
        registry.register_with_unit("scan_duration", help, Unit::Seconds, seconds.clone());
        let candidates = Gauge::default();
        let help = "Candidates for a volume that the last scan found";
        registry.register("scan_candidates", help, candidates.clone());
        Self { seconds, candidates }
    }
}

struct Config {
    success: Gauge,
    last_success: Gauge<f64, AtomicU64>,
}

impl Config {
    fn register(registry: &mut Registry) -> Self {
        let success = Gauge::default();
        let help =
            "1 if the configuration on disk is in force, 0 if it was refused and an older one is";
        registry.register("config_reload_success", help, success.clone());
        let last_success = Gauge::default();
        let help = "When a configuration was last taken, in seconds since the epoch";
        let name = "config_last_reload_success_timestamp";
        registry.register_with_unit(name, help, Unit::Seconds, last_success.clone());
        Self { success, last_success }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::volume::{Bytes, CleanMethod, Tenancy};

    fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
        let page = metrics.render();
        page.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn calls_are_counted_by_method_and_code_and_timed_by_method() {
        let metrics = Metrics::default();

        metrics.called("CreateVolume", "OK", Duration::from_micros(300));
        metrics.called("CreateVolume", "RESOURCE_EXHAUSTED", Duration::from_micros(300));

        assert_eq!(
            lines(&metrics, "berth_grpc_call_duration_seconds_count"),
            [r#"berth_grpc_call_duration_seconds_count{method="CreateVolume"} 2"#]
        );
        let mut counts = lines(&metrics, "berth_grpc_calls_total");
        counts.sort();
        assert_eq!(
            counts,
            [
                r#"berth_grpc_calls_total{method="CreateVolume",code="OK"} 1"#,
                r#"berth_grpc_calls_total{method="CreateVolume",code="RESOURCE_EXHAUSTED"} 1"#,
            ]
        );
    }

    #[test]
    fn names_that_a_caller_makes_up_do_not_become_labels() {
        let metrics = Metrics::default();

        for number in 0..100 {
            metrics.called(&format!("Invented{number}"), "UNIMPLEMENTED", Duration::ZERO);
        }

        assert_eq!(
            lines(&metrics, "berth_grpc_calls_total"),
            [r#"berth_grpc_calls_total{method="other",code="UNIMPLEMENTED"} 100"#]
        );
    }

    #[test]
    fn wipes_are_counted_by_how_they_ended() {
        let metrics = Metrics::default();
        let pool = "fast".parse().unwrap();
        let begun = Wipe::begun(Tenancy(1), &CleanMethod::Zero, Timestamp::UNIX_EPOCH);
        let failed = Wipe { result: WipeResult::VerifyFailed, bytes: Bytes(4096), ..begun };

        metrics.wiped(&pool, &failed, Duration::from_secs(2));
        metrics.clone().wiped(&pool, &failed, Duration::from_secs(2));

        assert_eq!(
            lines(&metrics, "berth_wipes_total"),
            [r#"berth_wipes_total{pool="fast",method="zero",outcome="verify_failed"} 2"#]
        );
        assert_eq!(
            lines(&metrics, "berth_wiped_bytes_total"),
            [r#"berth_wiped_bytes_total{pool="fast",method="zero"} 8192"#]
        );
    }

    #[test]
    fn a_refused_configuration_shows_and_the_time_of_the_last_good_one_stays() {
        let metrics = Metrics::default();

        metrics.configured(true, 1000.0);
        metrics.configured(false, 2000.0);

        assert_eq!(
            lines(&metrics, "berth_config_reload_success"),
            ["berth_config_reload_success 0"]
        );
        assert_eq!(
            lines(&metrics, "berth_config_last"),
            ["berth_config_last_reload_success_timestamp_seconds 1000.0"]
        );
    }

    #[test]
    fn a_page_is_complete_and_says_which_version_it_is_from() {
        let page = Metrics::default().render();

        let version = env!("CARGO_PKG_VERSION");
        assert!(page.contains(&format!("berth_build_info{{version=\"{version}\"}} 1\n")), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }
}
