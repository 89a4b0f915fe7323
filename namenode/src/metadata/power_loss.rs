//! The metadata against its [`Model`], with power loss as one of the operations.
//!
//! After every operation the database must hold exactly what the model holds, answer what it answers, and pass the audit.
//! After a crash in the middle of a commit it must hold what the model held before or after, and nothing in between.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::test_runner::Config;
use redb::Builder;

use super::audit::audit;
use super::crash_disk::CrashDisk;
use super::database::format;
use super::fixture::{
    CLUSTER, JOURNAL, NOW, commit, deletion, event, generation, registration, report,
};
use super::ledger::Ledger;
use super::model::{FILE_COUNT, Model};
use crate::mutation::{CommandEnd, Mutation, Reply};
use crate::record::{CommandRecordAction, NodeIndex};

const NODES: u32 = 4;
const LEASE_MS: u64 = 20;

#[derive(Debug, Clone)]
enum Step {
    Allocate(u32),
    Renew(u64),
    Commit { pick: u64, file: u8, nodes: u8 },
    Abandon(u64),
    Expire,
    Delete(u8),
    Added { node: u32, file: u8, pick: u64 },
    Removed { node: u32, file: u8, pick: u64 },
    Confirm { node: u32, pick: usize },
    Replay { node: u32 },
    Start,
}

/// One step, and how the power goes while it is carried out.
#[derive(Debug, Clone)]
struct Act {
    step: Step,
    power: Power,
}

#[derive(Debug, Clone)]
enum Power {
    On,
    /// Lost after this many disk operations, or at the end of the step. The sectors in doubt follow the seed.
    Lost {
        after: u64,
        seed: u64,
    },
}

/// The database on a disk that forgets, and the model beside it.
struct Pair {
    disk: CrashDisk,
    ledger: Arc<Ledger>,
    model: Model,
    now_ms: u64,
}

impl Pair {
    fn new() -> Self {
        let disk = CrashDisk::default();
        let database = Builder::new().create_with_backend(disk.backend()).unwrap();
        format(&database, CLUSTER).unwrap();
        let ledger = Ledger::new(database, None);
        for node in 1..=NODES {
            let reply = ledger.run(&[registration(node, 1, JOURNAL)]).unwrap();
            assert!(reply[0].is_ok());
        }
        let model = Model::of(&ledger.view().unwrap());
        Self {
            disk,
            ledger,
            model,
            now_ms: NOW,
        }
    }

    fn act(&mut self, act: &Act) {
        self.now_ms += 1;
        let mut after = self.model.clone();
        let (mutation, expected) = self.plan(&act.step, &mut after);
        match act.power {
            Power::On => {
                let replies = self.ledger.run(&[mutation]).unwrap();
                assert_eq!(replies[0].as_ref().ok(), expected.as_ref());
                self.model = after;
            }
            Power::Lost { after: left, seed } => {
                self.disk.die_in(left);
                let replies = self.ledger.run(&[mutation]);
                self.reopen(seed);
                let found = Model::of(&self.ledger.view().unwrap());
                if let Ok(replies) = replies {
                    assert_eq!(replies[0].as_ref().ok(), expected.as_ref());
                    assert_eq!(found, after, "an answered mutation was lost");
                } else {
                    assert!(
                        found == after || found == self.model,
                        "half of it: {found:?}"
                    );
                }
                self.model = found;
            }
        }
        let view = self.ledger.view().unwrap();
        audit(&view);
        assert_eq!(Model::of(&view), self.model);
    }

    fn reopen(&mut self, seed: u64) {
        let mut state = seed | 1;
        self.disk.crash(|| {
            // xorshift: which sectors survive has to be the same in a rerun.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 63 == 1
        });
        let database = Builder::new()
            .set_repair_callback(|session| session.abort())
            .create_with_backend(self.disk.backend())
            .expect("opening after a crash needs no repair");
        self.ledger = Ledger::new(database, None);
    }

    /// The mutation of a step; `None` as reply is a refusal. Brings `model` to after it.
    fn plan(&self, step: &Step, model: &mut Model) -> (Mutation, Option<Reply>) {
        match step {
            Step::Allocate(count) => self.plan_allocate(*count, model),
            Step::Renew(pick) => self.plan_renew(model.pick(*pick), model),
            Step::Commit { pick, file, nodes } => {
                plan_commit(model.pick(*pick), *file, *nodes, model)
            }
            Step::Abandon(pick) => plan_abandon(model.pick(*pick), model),
            Step::Expire => {
                let count = model.expire(self.now_ms);
                let mutation = Mutation::ExpireWrites {
                    now_ms: self.now_ms,
                    limit: 1000,
                };
                (mutation, Some(Reply::Expired { count }))
            }
            Step::Delete(file) => {
                let existed = model.delete(*file);
                (deletion(*file), Some(Reply::Deleted { existed }))
            }
            Step::Added { node, file, pick } => {
                let write = model.pick(*pick);
                plan_report(*node, *file, write, false, model)
            }
            Step::Removed { node, file, pick } => {
                let write = model.pick(*pick);
                plan_report(*node, *file, write, true, model)
            }
            Step::Confirm { node, pick } => self.plan_confirm(*node, *pick, model),
            Step::Replay { node } => {
                // The event before the next: applied already, whatever it says now.
                let next = model.sequences[node];
                let events = vec![event(next - 1, 0, 1, false), event(next + 1, 1, 1, false)];
                let next_sequence = richardstore_proto::Sequence(next);
                let mutation = report(*node, 1, JOURNAL, events);
                (mutation, Some(applied(next_sequence, None)))
            }
            Step::Start => {
                model.epoch += 1;
                let until = self.now_ms + LEASE_MS;
                for expires in model.leases.values_mut() {
                    *expires = until;
                }
                let mutation = Mutation::StartEpoch {
                    now_ms: self.now_ms,
                    writes_expire_at_ms: until,
                };
                let epoch = richardstore_proto::NamenodeEpoch(model.epoch);
                (mutation, Some(Reply::Epoch(epoch)))
            }
        }
    }

    fn plan_allocate(&self, count: u32, model: &mut Model) -> (Mutation, Option<Reply>) {
        let first = model.next_generation;
        model.next_generation += u64::from(count);
        model.leases.insert(first, self.now_ms + LEASE_MS);
        for write in first..model.next_generation {
            model.open.insert(write, first);
        }
        let mutation = Mutation::AllocateWrites {
            count,
            expires_at_ms: self.now_ms + LEASE_MS,
        };
        let first = generation(first);
        (mutation, Some(Reply::Writes { first }))
    }

    fn plan_renew(&self, write: u64, model: &mut Model) -> (Mutation, Option<Reply>) {
        let mut unknown = Vec::new();
        match model.open.get(&write) {
            Some(first) => {
                model.leases.insert(*first, self.now_ms + LEASE_MS);
            }
            None => unknown.push(generation(write)),
        }
        let mutation = Mutation::RenewWrites {
            generations: vec![generation(write)],
            expires_at_ms: self.now_ms + LEASE_MS,
        };
        (mutation, Some(Reply::Renewed { unknown }))
    }

    fn plan_confirm(&self, node: u32, pick: usize, model: &mut Model) -> (Mutation, Option<Reply>) {
        let view = self.ledger.view().unwrap();
        let commands = view.commands(NodeIndex(node), &[], u64::MAX, 100).unwrap();
        let mut outcomes = Vec::new();
        if let Some((id, command)) = commands.get(pick % commands.len().max(1)) {
            let CommandRecordAction::Delete { hash, .. } = &command.action else {
                panic!("{command:?}");
            };
            let file = hash.as_bytes()[0];
            model.tombstones.get_mut(&file).unwrap().1.remove(&node);
            model.drop_if_spent(file);
            outcomes.push((*id, CommandEnd::Done));
        }
        let index = NodeIndex(node);
        (
            Mutation::ConfirmCommands { index, outcomes },
            Some(Reply::Done),
        )
    }
}

fn plan_commit(write: u64, file: u8, nodes: u8, model: &mut Model) -> (Mutation, Option<Reply>) {
    let nodes: Vec<u32> = (1..=NODES)
        .filter(|node| nodes & (1 << (node - 1)) != 0)
        .collect();
    let created = !model.files.contains_key(&file);
    let reply = model.commit(write, file, &nodes).then(|| Reply::Committed {
        created,
        replicas: u32::try_from(model.files[&file].replicas.len()).unwrap(),
        created_ms: NOW,
    });
    (commit(generation(write), file, &nodes), reply)
}

fn plan_abandon(write: u64, model: &mut Model) -> (Mutation, Option<Reply>) {
    if model.open.contains_key(&write) {
        let parked = model.close(write);
        model.settle(&parked);
    }
    let mutation = Mutation::AbandonWrites {
        generations: vec![generation(write)],
        now_ms: NOW,
    };
    (mutation, Some(Reply::Done))
}

fn plan_report(
    node: u32,
    file: u8,
    write: u64,
    removed: bool,
    model: &mut Model,
) -> (Mutation, Option<Reply>) {
    let newest_lost = if removed {
        model.removed(node, file, write)
    } else {
        model.added(node, file, write);
        None
    };
    let next = model.sequences.get_mut(&node).unwrap();
    let events = vec![event(*next, file, write, removed)];
    *next += 1;
    let next_sequence = richardstore_proto::Sequence(*next);
    let mutation = report(node, 1, JOURNAL, events);
    (mutation, Some(applied(next_sequence, newest_lost)))
}

fn applied(next_sequence: richardstore_proto::Sequence, newest_lost: Option<u64>) -> Reply {
    Reply::Applied {
        next_sequence,
        newest_lost: newest_lost.map(generation),
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let file = 0..FILE_COUNT;
    let node = 1..=NODES;
    prop_oneof![
        4 => (1u32..4).prop_map(Step::Allocate),
        1 => any::<u64>().prop_map(Step::Renew),
        6 => (any::<u64>(), file.clone(), 1u8..16)
            .prop_map(|(pick, file, nodes)| Step::Commit { pick, file, nodes }),
        2 => any::<u64>().prop_map(Step::Abandon),
        1 => Just(Step::Expire),
        3 => file.clone().prop_map(Step::Delete),
        5 => (node.clone(), file.clone(), any::<u64>())
            .prop_map(|(node, file, pick)| Step::Added { node, file, pick }),
        2 => (node.clone(), file, any::<u64>())
            .prop_map(|(node, file, pick)| Step::Removed { node, file, pick }),
        3 => (node.clone(), any::<usize>())
            .prop_map(|(node, pick)| Step::Confirm { node, pick }),
        1 => node.prop_map(|node| Step::Replay { node }),
        1 => Just(Step::Start),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    let power = prop_oneof![
        4 => Just(Power::On),
        1 => (0u64..40, any::<u64>()).prop_map(|(after, seed)| Power::Lost { after, seed }),
    ];
    (steps(), power).prop_map(|(step, power)| Act { step, power })
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn i01_i03_i10_the_database_is_the_model_through_every_power_loss(
        acts in prop::collection::vec(acts(), 1..60),
    ) {
        let mut pair = Pair::new();
        for act in &acts {
            pair.act(act);
        }
    }
}
