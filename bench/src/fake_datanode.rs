//! [`FakeDatanode`]: a datanode without a disk, for measuring a namenode alone. It registers, takes part in allocations and
//! reports; what it says it holds is nowhere.

use anyhow::{Context, Result, ensure};
use prost::Message;
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::{self, block_report_request::Step, to_bytes};
use richardstore_proto::{ContentHash, Generation, RangeDigests, range_bounds};
use richardstore_runtime::Channel;

const JOURNAL: [u8; 16] = [2; 16];
/// Entries of one page, as datanodes send them.
const PAGE: usize = 4096;

/// A replica that it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Of which file.
    pub hash: ContentHash,
    /// Written as what.
    pub generation: Generation,
}

/// One of them.
#[derive(Clone)]
pub struct FakeDatanode {
    client: NameNodeClient<Channel>,
    id: [u8; 16],
    next_sequence: u64,
    report_bytes: usize,
}

/// All that a datanode holds, with the digests that a real one keeps.
pub struct Holdings {
    claims: Vec<Claim>,
    digests: RangeDigests,
}

impl Holdings {
    /// Of these claims.
    pub fn new(mut claims: Vec<Claim>) -> Self {
        claims.sort();
        let mut digests = RangeDigests::default();
        for claim in &claims {
            digests.add(&claim.hash, claim.generation);
        }
        Self { claims, digests }
    }

    /// The same and these.
    #[must_use]
    pub fn with(&self, more: impl IntoIterator<Item = Claim>) -> Self {
        Self::new(self.claims.iter().copied().chain(more).collect())
    }

    /// The claims, ascending.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }
}

impl FakeDatanode {
    /// Registers the `number`th at the namenode of `client`.
    pub async fn register(mut client: NameNodeClient<Channel>, number: u8) -> Result<Self> {
        let id = [number; 16];
        let answer = client
            .register(wire::RegisterRequest {
                node_id: to_bytes(&id),
                session_epoch: 1,
                name: format!("fake-{number}"),
                address: format!("127.0.0.1:{number}"),
                rack: format!("rack-{number}"),
                stats: Some(wire::NodeStats {
                    capacity_bytes: 1 << 50,
                    available_bytes: 1 << 50,
                    ..Default::default()
                }),
                journal_id: to_bytes(&JOURNAL),
                journal_next: 1,
                ..Default::default()
            })
            .await?
            .into_inner();
        Ok(Self {
            client,
            id,
            next_sequence: answer.next_sequence,
            report_bytes: 0,
        })
    }

    /// Its id, as a commit names it.
    pub fn id(&self) -> bytes::Bytes {
        to_bytes(&self.id)
    }

    /// Bytes of messages of its full reports since this was asked, both ways.
    pub fn take_report_bytes(&mut self) -> usize {
        std::mem::take(&mut self.report_bytes)
    }

    /// Reports `held` as everything it holds, journals what the namenode wants to hear of it, and says how many replicas it had
    /// to list. Where the namenode knows them all it is one small message.
    pub async fn full_report(&mut self, held: &Holdings) -> Result<usize> {
        let Holdings { claims, digests } = held;
        let root = digests.root().on_wire(0);
        let answer = self
            .step(Step::Digests(wire::ReportDigests {
                root: Some(root.clone()),
                ranges: Vec::new(),
            }))
            .await?;
        if answer.root_agrees {
            return Ok(0);
        }
        let ranges = digests.ranges().iter().enumerate();
        let ranges = ranges
            .map(|(range, digest)| digest.on_wire(range))
            .collect();
        let answer = self
            .step(Step::Digests(wire::ReportDigests {
                root: Some(root),
                ranges,
            }))
            .await?;
        let mut entries = 0;
        for range in answer.differing {
            let (listed, wanted) = self.list_range(claims, range).await?;
            entries += listed;
            // Page by page, as datanodes do.
            if !wanted.is_empty() {
                self.incremental_report(&wanted).await?;
            }
        }
        Ok(entries)
    }

    /// Sends `claims` as new events of its journal.
    pub async fn incremental_report(&mut self, claims: &[Claim]) -> Result<()> {
        let events = (self.next_sequence..).zip(claims);
        let events: Vec<_> = events
            .map(|(sequence, claim)| wire::JournalEvent {
                sequence,
                hash: to_bytes(claim.hash.as_bytes()),
                generation: claim.generation.0,
                size: 4096,
                blake3_root: to_bytes(&[3; 32]),
                removed: false,
            })
            .collect();
        let request = wire::IncrementalBlockReportRequest {
            node_id: self.id(),
            session_epoch: 1,
            journal_id: to_bytes(&JOURNAL),
            events,
        };
        self.report_bytes += request.encoded_len();
        let answer = self.client.incremental_block_report(request).await?;
        let next = answer.into_inner().next_sequence;
        ensure!(
            next == self.next_sequence + claims.len() as u64,
            "the report was not applied"
        );
        self.next_sequence = next;
        Ok(())
    }

    /// Lists what it holds of a range: how many replicas, and those that the namenode wants to hear of.
    async fn list_range(&mut self, claims: &[Claim], range: u32) -> Result<(usize, Vec<Claim>)> {
        let (first, last) = range_bounds(range as usize).context("no such range")?;
        let from = claims.partition_point(|claim| claim.hash < first);
        let to = claims.partition_point(|claim| claim.hash <= last);
        let mut after = match range {
            0 => bytes::Bytes::new(),
            _ => {
                let before = range_bounds(range as usize - 1).context("no such range")?;
                to_bytes(before.1.as_bytes())
            }
        };
        let mut pages: Vec<&[Claim]> = claims[from..to].chunks(PAGE).collect();
        // Also where it holds nothing: then the namenode believes something that it has to look at again.
        if pages.is_empty() {
            pages.push(&[]);
        }
        let ends = pages.len();
        let mut wanted = Vec::new();
        for (number, page) in (1..).zip(pages) {
            let end = page.last().map_or(last, |claim| claim.hash);
            let through = to_bytes(if number == ends { last } else { end }.as_bytes());
            let entries = page.iter().map(|claim| wire::ReplicaEntry {
                hash: to_bytes(claim.hash.as_bytes()),
                generation: claim.generation.0,
            });
            let step = Step::Entries(wire::ReportEntries {
                after: after.clone(),
                through: through.clone(),
                entries: entries.collect(),
            });
            for entry in self.step(step).await?.announce {
                wanted.push(Claim {
                    hash: ContentHash::new(<[u8; 32]>::try_from(&entry.hash[..])?),
                    generation: Generation(entry.generation),
                });
            }
            after = through;
        }
        Ok((to - from, wanted))
    }

    async fn step(&mut self, step: Step) -> Result<wire::BlockReportResponse> {
        let request = wire::BlockReportRequest {
            node_id: self.id(),
            session_epoch: 1,
            journal_id: to_bytes(&JOURNAL),
            step: Some(step),
        };
        self.report_bytes += request.encoded_len();
        let answer = self.client.block_report(request).await;
        let answer = answer.context("a full report")?.into_inner();
        self.report_bytes += answer.encoded_len();
        ensure!(!answer.unregistered, "the namenode forgot the node");
        Ok(answer)
    }
}
