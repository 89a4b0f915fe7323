//! [`Limits`]: what the machine itself does, measured beside the store in the same run, since virtual machines change their
//! speed within the hour.

mod bare_service;
mod database;
mod disk;
mod hashing;
mod network;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::row::Row;

/// Copies of each byte that a default store makes.
const REPLICAS: f64 = 3.0;
/// SHA-256 and BLAKE3 passes over each uploaded byte: the gateway's and each datanode's.
const UPLOAD_PASSES: f64 = 1.0 + REPLICAS;
/// Times each uploaded byte goes over a socket: to the gateway and along the chain.
const UPLOAD_HOPS: f64 = 1.0 + REPLICAS;

/// Rates of the bare machine, in bytes or operations a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Sequential writes past the page cache, with a sync at the end.
    pub direct_write: f64,
    /// The same through the page cache.
    pub buffered_write: f64,
    /// Sequential reads and writes of the same bytes past the page cache, by one thread.
    pub direct_copy: f64,
    /// Files of 4 KiB made durable by the store's own library, one after the other.
    pub publish_alone: f64,
    /// The same by 64 threads, which share their syncs.
    pub publish_batched: f64,
    /// The same with another one read before each.
    pub read_and_publish: f64,
    /// SHA-256 on one core.
    pub sha256: f64,
    /// BLAKE3 on one core.
    pub blake3: f64,
    /// A bare gRPC stream to a client, four at once.
    pub grpc_download: f64,
    /// A bare gRPC stream to a server, three at once.
    pub grpc_upload: f64,
    /// Processor seconds that both ends of such a stream take for one byte.
    pub grpc_cpu_per_byte: f64,
    /// Bare unary gRPC calls, 64 callers.
    pub grpc_unary: f64,
    /// A bare HTTP POST of 4 KiB, 64 callers.
    pub http_post: f64,
    /// Durable commits of one record.
    pub database_commit: f64,
    /// Records in durable commits of 1,000.
    pub database_insert: f64,
}

impl Limits {
    /// Measures all of it, each figure for about `duration`, in a new directory under `place`.
    ///
    /// # Errors
    /// The disk or the network did not do what was asked.
    pub async fn measure(place: &Path, duration: Duration) -> Result<(Self, Vec<Row>)> {
        let directory = Place::under(place)?;
        let path = directory.path().to_owned();
        let on_disk = tokio::task::spawn_blocking(move || -> Result<Vec<Row>> {
            let mut rows = vec![
                disk::direct_write(&path, duration)?,
                disk::buffered_write(&path, duration)?,
                disk::direct_copy(&path, duration)?,
                disk::publish(&path, 1, duration)?,
                disk::publish(&path, 64, duration)?,
                disk::read_and_publish(&path, 64, duration)?,
            ];
            rows.extend(database::commits(&path, duration)?);
            rows.extend(hashing::both(duration));
            Ok(rows)
        });
        let mut rows = on_disk.await??;
        let network = network::measure(duration).await?;
        rows.extend(network.rows);
        let find = |name: &str| rows.iter().find(|row| row.name == name);
        let calls = |name: &str| find(name).map_or(0.0, |row| row.per_second);
        let bytes = |name: &str| find(name).map_or(0.0, |row| row.bytes_per_second);
        let limits = Self {
            direct_write: bytes(disk::DIRECT),
            buffered_write: bytes(disk::BUFFERED),
            direct_copy: bytes(disk::COPY),
            publish_alone: calls(&disk::publish_name(1)),
            publish_batched: calls(&disk::publish_name(64)),
            read_and_publish: calls(&disk::copy_name(64)),
            sha256: bytes(hashing::SHA256),
            blake3: bytes(hashing::BLAKE3),
            grpc_download: bytes(network::DOWNLOAD),
            grpc_upload: bytes(network::UPLOAD),
            grpc_cpu_per_byte: network.cpu_per_byte,
            grpc_unary: calls(network::UNARY),
            http_post: calls(network::POST),
            database_commit: calls(database::COMMIT),
            database_insert: calls(database::INSERT),
        };
        Ok((limits, rows))
    }

    /// Uploads a second of files of `size` bytes that the machine allows: for small ones what the disk can publish three times,
    /// for large ones what it can write three times and what the processors can hash and move.
    pub fn put(&self, size: usize) -> Option<f64> {
        let publishes = self.publish_batched / REPLICAS;
        let bandwidth = self.direct_write / REPLICAS;
        let hashing = UPLOAD_PASSES * (1.0 / self.sha256 + 1.0 / self.blake3);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let moving = UPLOAD_HOPS * self.grpc_cpu_per_byte;
        let processing = processors as f64 / (hashing + moving);
        let bytes = bandwidth.min(processing) / size.max(1) as f64;
        Some(publishes.min(bytes)).filter(|limit| limit.is_finite() && *limit > 0.0)
    }

    /// Downloads a second of files of `size` bytes: bare calls for small ones, a bare stream for large ones.
    pub fn get(&self, size: usize) -> Option<f64> {
        let streamed = self.grpc_download / size.max(1) as f64;
        Some(self.grpc_unary.min(streamed)).filter(|limit| limit.is_finite() && *limit > 0.0)
    }

    /// Deletes a second: each is a record in a durable commit, and a bare call.
    pub fn delete(&self) -> Option<f64> {
        Some(self.database_insert.min(self.grpc_unary)).filter(|limit| *limit > 0.0)
    }

    /// Replicas of `size` bytes that can be made again in a second: read, and published, or for large ones written.
    pub fn repair(&self, size: usize) -> Option<f64> {
        let written = self.direct_copy / size.max(1) as f64;
        Some(self.read_and_publish.min(written)).filter(|limit| *limit > 0.0)
    }
}
