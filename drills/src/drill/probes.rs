//! [`Probes`]: readers and writers that go on while a drill does its worst, and note for how long they could not.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::canaries::Canaries;
use crate::{Content, Http, Outages};

const READ_EVERY: Duration = Duration::from_millis(100);
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// Somebody who waits for longer than this for a few kilobytes calls it an outage.
const PATIENCE: Duration = Duration::from_secs(3);
const WRITTEN_BYTES: u64 = 4 << 10;

/// A reader and a writer for each way into the cluster. Dropping them ends them.
#[derive(Debug)]
pub struct Probes {
    stop: CancellationToken,
    running: JoinSet<(Kind, Vec<Span>)>,
}

/// For how long some gateway did not do what it was asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unavailable {
    /// Could not read.
    pub reads: Duration,
    /// Could not write.
    pub writes: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

type Span = (Duration, Duration);

impl Probes {
    /// Starts them. They read the steady ones of `canaries` and write new ones.
    pub fn start(canaries: &Canaries, gateways: &[Http]) -> Self {
        let stop = CancellationToken::new();
        let started = Instant::now();
        let mut running = JoinSet::new();
        for http in gateways {
            for kind in [Kind::Read, Kind::Write] {
                let probe = Probe {
                    kind,
                    canaries: canaries.clone(),
                    http: http.clone(),
                };
                running.spawn(probe.run(started, stop.clone()));
            }
        }
        Self { stop, running }
    }

    /// Ends them. What failed until now counts until now.
    pub async fn finish(mut self) -> Unavailable {
        self.stop.cancel();
        let (mut reads, mut writes) = (Outages::default(), Outages::default());
        while let Some(ended) = self.running.join_next().await {
            let Ok((kind, spans)) = ended else { continue };
            let outages = match kind {
                Kind::Read => &mut reads,
                Kind::Write => &mut writes,
            };
            for (from, until) in spans {
                outages.add(from, until);
            }
        }
        Unavailable {
            reads: reads.total(),
            writes: writes.total(),
        }
    }
}

struct Probe {
    kind: Kind,
    canaries: Canaries,
    http: Http,
}

impl Probe {
    async fn run(self, started: Instant, stop: CancellationToken) -> (Kind, Vec<Span>) {
        let mut spans = Vec::new();
        // An outage begins with the first request that failed and ends when one is answered again.
        let mut failing_since = None;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let asked = timeout(PATIENCE, self.ask());
            let answered = tokio::select! {
                answered = asked => answered.unwrap_or(false),
                () = stop.cancelled() => break,
            };
            if !answered {
                failing_since.get_or_insert(began);
            } else if let Some(since) = failing_since.take() {
                spans.push((since - started, started.elapsed()));
            }
            tokio::select! {
                () = sleep_until(began + self.kind.every()) => {}
                () = stop.cancelled() => {}
            }
        }
        spans.extend(failing_since.map(|since| (since - started, started.elapsed())));
        (self.kind, spans)
    }

    async fn ask(&self) -> bool {
        match self.kind {
            Kind::Read => match self.pick() {
                Some(canary) => self.canaries.read(&self.http, canary).await,
                None => true,
            },
            Kind::Write => {
                let content = self.canaries.invent(WRITTEN_BYTES);
                self.canaries.upload(&self.http, content).await
            }
        }
    }

    fn pick(&self) -> Option<Content> {
        let steady = self.canaries.steady();
        let at = self.canaries.draw(steady.len() as u64);
        steady.get(usize::try_from(at).ok()?).copied()
    }
}

impl Kind {
    fn every(self) -> Duration {
        match self {
            Self::Read => READ_EVERY,
            Self::Write => WRITE_EVERY,
        }
    }
}
