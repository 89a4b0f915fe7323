//! [`Canaries`]: the files of one drill: what was promised of them, whether it was kept, and their removal.
//!
//! Their contents come from random seeds and have at least [`Content::LEAST_CANARY_BYTES`], so that none of them is ever a file of somebody
//! else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};
use tokio::task::JoinSet;

use super::view::ASK_EVERY;
use crate::{Content, Http, Oracle, Random, Tally, wait_until};

/// One request may take this long; after that it counts as cut.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// A cluster that is healthy again answers for each file within this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 16;

/// The canaries. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Canaries(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    oracle: Oracle,
    random: Random,
    /// Acknowledged, and not to be deleted before the end: these are read all the time.
    steady: Vec<Content>,
}

impl Canaries {
    /// None yet; `seed` decides their contents.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            oracle: Oracle::default(),
            random: Random::new(seed),
            steady: Vec::new(),
        })))
    }

    /// A new content of at most `largest` bytes.
    pub fn invent(&self, largest: u64) -> Content {
        let random = &mut self.state().random;
        let least = Content::LEAST_CANARY_BYTES;
        let size = least + random.below(largest.saturating_sub(least));
        Content::new(random.number(), size)
    }

    /// A number below `limit`.
    pub fn draw(&self, limit: u64) -> u64 {
        self.state().random.below(limit)
    }

    /// Uploads `content`; `false` where no answer promised anything. Nothing is lost track of when this is dropped half-way.
    pub async fn upload(&self, http: &Http, content: Content) -> bool {
        let hash = content.hash();
        self.state().oracle.upload_started(&hash, content);
        let answer = tokio::time::timeout(REQUEST_LIMIT, http.upload(content)).await;
        let acknowledged = matches!(&answer, Ok(Ok(named)) if *named == hash);
        let oracle = &mut self.state().oracle;
        match acknowledged {
            true => oracle.upload_acknowledged(&hash),
            false => oracle.request_cut(),
        }
        acknowledged
    }

    /// Uploads a canary that stays to the end.
    ///
    /// # Errors
    /// When it is not acknowledged.
    pub async fn plant(&self, http: &Http, content: Content) -> Result<()> {
        if !self.upload(http, content).await {
            bail!("{} did not take a canary", http.authority());
        }
        self.state().steady.push(content);
        Ok(())
    }

    /// Those that stay to the end.
    pub fn steady(&self) -> Vec<Content> {
        self.state().steady.clone()
    }

    /// Takes `count` of those that were to stay, to be deleted.
    pub fn give_up(&self, count: usize) -> Vec<Content> {
        let steady = &mut self.state().steady;
        let from = steady.len().saturating_sub(count);
        steady.split_off(from)
    }

    /// Deletes one; `false` where no answer promised anything.
    pub async fn delete(&self, http: &Http, content: Content) -> bool {
        let hash = content.hash();
        self.state().oracle.delete_started(&hash);
        let path = format!("/files/{hash}");
        let call = http.call(Method::DELETE, &path, &[]);
        let answer = tokio::time::timeout(REQUEST_LIMIT, call).await;
        let deleted = matches!(&answer, Ok(Ok(answer)) if answer.status == StatusCode::OK);
        let oracle = &mut self.state().oracle;
        match deleted {
            true => oracle.delete_acknowledged(&hash),
            false => oracle.request_cut(),
        }
        deleted
    }

    /// Reads one that has to be there. Its absence and wrong bytes are broken promises; no answer is none.
    pub async fn read(&self, http: &Http, content: Content) -> bool {
        let hash = content.hash();
        let found = http.download_matches(&hash, content).await;
        match found {
            Ok(Some(true)) => true,
            Ok(found) => {
                self.state().oracle.observed(&hash, found);
                false
            }
            Err(_) => false,
        }
    }

    /// Reads everything that was ever touched and compares it with what was promised.
    ///
    /// # Errors
    /// When a file gets no clear answer.
    pub async fn check(&self, gateways: &[Http]) -> Result<()> {
        self.for_all(gateways, Self::check_one).await
    }

    /// Deletes all that are there, and asks again whether they are gone.
    ///
    /// # Errors
    /// When one is not, or gets no clear answer.
    pub async fn remove(&self, gateways: &[Http]) -> Result<()> {
        self.state().steady.clear();
        self.for_all(gateways, Self::remove_one).await?;
        self.check(gateways).await
    }

    /// How many files were touched so far.
    pub fn touched(&self) -> usize {
        self.state().oracle.touched().len()
    }

    /// The figures so far.
    pub fn tally(&self) -> Tally {
        self.state().oracle.tally()
    }

    async fn check_one(self, http: Http, content: Content) -> Result<()> {
        let hash = content.hash();
        let asking = async {
            loop {
                let read = http.download_matches(&hash, content);
                match tokio::time::timeout(REQUEST_LIMIT, read).await {
                    Ok(Ok(found)) => return found,
                    Ok(Err(_)) | Err(_) => tokio::time::sleep(ASK_EVERY).await,
                }
            }
        };
        let told = tokio::time::timeout(ANSWER_LIMIT, asking).await;
        // What nobody can read is lost to who uploaded it.
        let found = told.as_ref().copied().unwrap_or(None);
        self.state().oracle.observed(&hash, found);
        told.with_context(|| format!("no clear answer to a read of {hash}"))?;
        Ok(())
    }

    async fn remove_one(self, http: Http, content: Content) -> Result<()> {
        let hash = content.hash();
        let path = format!("/files/{hash}");
        let gone = async || {
            if self.delete(&http, content).await {
                return true;
            }
            let head = http.call(Method::HEAD, &path, &[]).await;
            head.is_ok_and(|head| head.status == StatusCode::NOT_FOUND)
        };
        let removed = wait_until("it is deleted", ANSWER_LIMIT, gone).await;
        removed.with_context(|| format!("deleting {hash}"))
    }

    async fn for_all<F>(
        &self,
        gateways: &[Http],
        each: impl Fn(Self, Http, Content) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let touched = self.state().oracle.touched();
        let mut working = JoinSet::new();
        let mut outcome = Ok(());
        for ((_, content), http) in touched.into_iter().zip(gateways.iter().cycle()) {
            if working.len() >= AT_ONCE {
                outcome = outcome.and(joined(working.join_next().await));
            }
            working.spawn(each(self.clone(), http.clone(), content));
        }
        while let Some(done) = working.join_next().await {
            outcome = outcome.and(joined(Some(done)));
        }
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn joined(done: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    done.unwrap_or(Ok(Ok(())))?
}
