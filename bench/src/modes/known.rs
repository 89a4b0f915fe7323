//! Offering a file that is in the store already: no byte of it is sent.

use anyhow::{Context, Result};
use richardstore_proto::ContentHash;

use super::{Plan, size_name};
use crate::connection::{Connection, offer_known};
use crate::load::{Load, Worker};
use crate::payload::Payload;
use crate::row::Row;

struct Offering {
    gateway: String,
    hash: ContentHash,
    size: usize,
}

impl Worker for Offering {
    async fn operation(&mut self, _: u64) -> Result<u64> {
        offer_known(&self.gateway, &self.hash, self.size).await?;
        Ok(0)
    }
}

pub(super) async fn run(plan: &Plan) -> Result<Vec<Row>> {
    let store = plan.store().await?;
    let mut rows = Vec::new();
    for &size in &plan.sizes {
        let mut connection = Connection::several(store.addresses(), false, 1);
        let connection = connection.first_mut().context("one was asked for")?;
        let chunks = Payload::new(size, std::process::id().into()).chunks(0);
        let hash = connection.put(chunks).await?;
        let mut repeated = Vec::new();
        for _ in 0..plan.repeat {
            let worker = Offering {
                gateway: store.addresses().gateway.clone(),
                hash,
                size,
            };
            let timings = Load::closed(plan.duration).run(vec![worker]).await?;
            repeated.push(Row::of(
                format!("known http {} x1", size_name(size)),
                &timings,
            ));
        }
        rows.extend(Row::median(repeated));
    }
    Ok(rows)
}
