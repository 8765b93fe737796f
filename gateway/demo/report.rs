//! What the tour found, a line a check.

use std::time::Instant;

/// Collects and prints the outcome of each check as it comes.
pub struct Report {
    started: Instant,
    passed: u32,
    failed: u32,
}

impl Report {
    /// An empty report; times are shown from now on.
    pub fn new() -> Self {
        Self { started: Instant::now(), passed: 0, failed: 0 }
    }

    /// Notes and prints one outcome: what was to be seen, and the evidence or the failure.
    pub fn note(&mut self, what: &str, outcome: anyhow::Result<String>) {
        let at = self.started.elapsed().as_secs_f32();
        match outcome {
            Ok(evidence) => {
                self.passed += 1;
                println!("[{at:6.2} s] ok    {what}\n             {}", evidence.replace('\n', "\n             "));
            }
            Err(error) => {
                self.failed += 1;
                println!("[{at:6.2} s] FAIL  {what}\n             {error:#}");
            }
        }
    }

    /// Prints the closing line; true if nothing failed.
    pub fn close(&self) -> bool {
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}
