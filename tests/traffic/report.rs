//! What came of each run.

use crate::case::{Case, Column};
use crate::change::Outcome;
use std::fmt;
use std::process::ExitCode;

/// What came of a case in one column.
#[derive(Debug)]
pub enum Verdict {
    Holds,
    /// Not run, and why.
    Differs(String),
    /// What was expected and what came.
    Fails(Vec<String>),
}

/// The sum of all.
#[derive(Debug)]
pub struct Report {
    cases: usize,
    runs: usize,
    failed: usize,
    differ: usize,
}

// === impl Report ===

impl Report {
    pub fn new(cases: usize) -> Self {
        Self { cases, runs: 0, failed: 0, differ: 0 }
    }

    /// Adds and prints one verdict.
    pub fn add(&mut self, case: &Case, column: Column, verdict: Verdict) {
        let name = &case.name;
        match verdict {
            Verdict::Holds => println!("ok    {column:8} {name}"),
            Verdict::Differs(reason) => {
                self.differ += 1;
                println!("-     {column:8} {name}: {reason}");
                return;
            }
            Verdict::Fails(reasons) => {
                self.failed += 1;
                println!("FAIL  {column:8} {name}");
                reasons.iter().flat_map(|reason| reason.lines()).for_each(|line| println!("        {line}"));
            }
        }
        self.runs += 1;
    }

    /// Adds and prints what came of a proxy under load.
    pub fn add_outcome(&mut self, outcome: &Outcome) {
        let Outcome { proxy, summary, wrong } = outcome;
        self.runs += 1;
        self.failed += usize::from(!wrong.is_empty());
        println!("{}  {proxy}: {summary}", if wrong.is_empty() { "ok  " } else { "FAIL" });
        wrong.iter().flat_map(|reason| reason.lines()).for_each(|line| println!("        {line}"));
    }

    pub fn code(&self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, runs, failed, differ } = self;
        write!(f, "{cases} cases, {runs} runs, {failed} failed; {differ} differ by design")
    }
}
