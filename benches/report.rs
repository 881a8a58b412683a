//! What a part has measured, as it stands in docs/benchmarks.md: paragraphs, tables and plots, written there between the
//! part's markers and printed meanwhile.

use std::fmt::{Display, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use crate::plot::{Bars, Lines};
use crate::site;

/// The pages that parts have a place in.
const PAGES: [&str; 2] = ["benchmarks.md", "costs.md"];

/// What one part says.
pub struct Report {
    part: &'static str,
    text: String,
    columns: usize,
}

impl Report {
    pub fn new(part: &'static str) -> Self {
        let mut report = Self { part, text: String::new(), columns: 0 };
        report.say(format!("*{}*", site::machine()));
        report
    }

    /// A paragraph, in Markdown.
    pub fn say(&mut self, text: impl Display) {
        self.put(&format!("{text}\n"));
    }

    /// Begins a table: the heads of its columns, of which those that end in `:` are set to the right.
    pub fn table(&mut self, heads: &[&str]) {
        let row = |cells: Vec<&str>| format!("| {} |", cells.join(" | "));
        let rule = |head: &&str| if head.ends_with(':') { "---:" } else { "---" };
        let names = heads.iter().map(|head| head.trim_end_matches(':')).collect();
        self.columns = heads.len();
        self.put(&row(names));
        self.put(&row(heads.iter().map(rule).collect()));
    }

    /// A row of the table that was begun last. A cell may hold several, as [`crate::samples::Samples`] does.
    pub fn row(&mut self, cells: &[&dyn Display]) {
        let cells: Vec<_> = cells.iter().map(ToString::to_string).collect();
        let line = format!("| {} |", cells.join(" | "));
        assert_eq!(line.split(" | ").count(), self.columns, "{line}");
        self.put(&line);
    }

    /// Ends a table.
    pub fn end(&mut self) {
        self.put("");
    }

    /// A plot of lines: docs/benchmarks/NAME.svg.
    pub fn lines(&mut self, lines: &Lines<'_>) {
        lines.draw(&picture(lines.name)).unwrap();
        self.show(lines.name, lines.title);
    }

    /// A plot of bars: docs/benchmarks/NAME.svg.
    pub fn bars(&mut self, bars: &Bars<'_>) {
        bars.draw(&picture(bars.name)).unwrap();
        self.show(bars.name, bars.title);
    }

    /// Puts everything into the page, in the place of what the part said the last time.
    pub fn write(self) {
        let (begin, end) =
            (format!("<!-- {} begins -->\n", self.part), format!("<!-- {} ends -->", self.part));
        for page in PAGES.map(|page| docs().join(page)) {
            let old = fs::read_to_string(&page).unwrap();
            if let Some(((before, _), (_, after))) =
                old.split_once(&begin).zip(old.split_once(&end))
            {
                let new = format!("{before}{begin}\n{}\n{end}{after}", self.text.trim_end());
                return fs::write(&page, new).unwrap();
            }
        }
        eprintln!("no page has a place for {}", self.part);
    }

    fn put(&mut self, line: &str) {
        println!("{line}");
        writeln!(self.text, "{line}").unwrap();
    }

    fn show(&mut self, name: &str, title: &str) {
        self.say(format!("![{title}](benchmarks/{name}.svg)"));
    }
}

fn docs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
}

fn picture(name: &str) -> PathBuf {
    let directory = docs().join("benchmarks");
    fs::create_dir_all(&directory).unwrap();
    directory.join(format!("{name}.svg"))
}
