//! The watched directory.
//!
//! ```text
//! inotify on the directory and its parent ─┐
//!                                          ├─▶ 50 ms of quiet ─▶ read everything ─▶ view
//! every 2 s, whatever the kernel says ─────┘
//! ```

use crate::event::Event;
use crate::source::directory::Directory;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How long it must be quiet after a change, so that a writer can finish.
const QUIET: Duration = Duration::from_millis(50);
/// How long to wait for quiet at most.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the directory is read in any case: inotify sees no network file systems.
const POLL: Duration = Duration::from_secs(2);

/// Sends a view of `directory` to `events` whenever it is different, until `shutdown`.
pub(crate) async fn run(mut directory: Directory, events: mpsc::Sender<Event>, shutdown: CancellationToken) {
    let (touched, mut touches) = mpsc::channel(1);
    let mut watcher = Watch::new(touched);
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = poll.tick() => watcher.ensure(directory.path()),
            Some(()) = touches.recv() => quiet(&mut touches).await,
        }
        let Ok((read, changed)) = tokio::task::spawn_blocking(move || reread(directory)).await else {
            tracing::error!("reading the directory panicked: it is no longer watched");
            return;
        };
        directory = read;
        if changed && events.send(Event::Files(directory.view())).await.is_err() {
            return;
        }
    }
}

fn reread(mut directory: Directory) -> (Directory, bool) {
    let changed = directory.read();
    (directory, changed)
}

async fn quiet(touches: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if tokio::time::timeout(QUIET, touches.recv()).await.is_err() {
            return;
        }
    }
}

/// The kernel's notifications, where it gives any.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: bool,
}

impl Watch {
    fn new(touched: mpsc::Sender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // A touch that is already waiting stands for this one too.
                let _ = touched.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no notifications of changed files: reading them every 2 s");
        }
        Self { watcher: watcher.ok(), watched: false }
    }

    /// Watches the directory, and its parent for the case that the directory itself is a link that is swapped.
    fn ensure(&mut self, directory: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        if self.watched {
            return;
        }
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = watcher.watch(parent, RecursiveMode::NonRecursive);
        self.watched = watcher.watch(directory, RecursiveMode::NonRecursive).is_ok() && parent.is_ok();
    }
}

/// Whether this tells of a change: our own reading is an event too, and must not lead to another.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
