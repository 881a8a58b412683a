use super::*;
use super::checker::explore;

fn show(name: &str, bounds: Bounds, mutation: Option<Mutation>) {
    if let Ok(only) = std::env::var("ONLY") { if !name.contains(&only) { return; } }
    let most = std::env::var("MOST").ok().and_then(|m| m.parse().ok()).unwrap_or(300_000);
    let began = std::time::Instant::now();
    let model = Model::new(bounds, mutation);
    let report = explore(&model, most);
    println!("{name}: {} states, {} steps, depth {}, cut {}, {:?}", report.states, report.steps, report.depth, report.cut, began.elapsed());
    if let Some((broken, way)) = report.broken {
        println!("  BROKEN {broken:?}");
        for label in way { println!("    {label}"); }
    }
    if let Some((way, state)) = report.stuck {
        println!("  STUCK");
        for label in way { println!("    {label}"); }
        println!("{state:#?}");
    }
}

#[test]
fn explore_one() {
    use Fault::*;
    let one = Bounds { volumes: 1, names: 1, controllers: 1, lives: 0, ..Bounds::default() };
    let two = Bounds { names: 2, ..one };
    show("one", one, None);
    show("two-names", two, None);
    show("crash", Bounds { faults: Faults::new([(AgentCrash, 1), (ControllerCrash, 1)]), ..two }, None);
    show("reset", Bounds { faults: Faults::new([(Reset, 1)]), ..two }, None);
    show("ledger", Bounds { volumes: 2, faults: Faults::new([(LedgerLost, 1), (AgentCrash, 2)]), ..one }, None);
    show("deleted", Bounds { late: (false, true), faults: Faults::new([(ObjectDeleted, 1)]), ..one }, None);
    show("backset", Bounds { names: 2, faults: Faults::new([(SetBack, 1)]), ..one }, None);
    show("node", Bounds { late: (false, true), faults: Faults::new([(NodeDeleted, 1)]), ..one }, None);
    show("late", Bounds { late: (true, true), ..one }, None);
    show("controllers", Bounds { controllers: 2, late: (true, false), lives: 1, ..one }, None);
    show("volumes", Bounds { volumes: 2, controllers: 2, late: (true, false), ..one }, None);
    show("lease", Bounds { volumes: 2, controllers: 2, late: (true, false), sweeps: true, faults: Faults::new([(LeaseDeleted, 1)]), ..one }, None);
}
