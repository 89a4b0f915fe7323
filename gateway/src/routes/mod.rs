//! The handlers, by subject.

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod console;
pub(crate) mod download;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod health;
mod parameters;
pub(crate) mod upload;
