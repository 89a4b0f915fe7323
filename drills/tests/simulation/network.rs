//! [`World`]: the simulation's network, time, ids and single thread, in the place of the machine's.

use std::sync::Arc;

use richardstore_runtime::{
    ByteStream, Channels, Clock, Dial, Environment, Incoming, Listen, Offload,
};
use turmoil::net::{TcpListener, TcpStream};

use crate::entropy::SeededEntropy;
use crate::wire::Wire;

/// What the hosts of one run share. Cheap to clone.
#[derive(Clone)]
pub struct World {
    entropy: Arc<SeededEntropy>,
    wire: Wire,
}

impl World {
    /// The world of `seed`, overheard by `wire`.
    pub fn new(seed: u64, wire: Wire) -> Self {
        Self {
            entropy: Arc::new(SeededEntropy::new(seed)),
            wire,
        }
    }

    /// The environment of one start of `host`. Connections end with the start they were opened in, so no two starts
    /// share one.
    pub fn environment(&self, host: &'static str) -> Environment {
        Environment {
            clock: Arc::new(SimulatedClock),
            entropy: self.entropy.clone(),
            offload: Offload::Inline,
            channels: Channels::new(self.dial(host)),
            listen: listen(),
        }
    }

    fn dial(&self, host: &'static str) -> Dial {
        let wire = self.wire.clone();
        Arc::new(move |address| {
            let wire = wire.clone();
            Box::pin(async move {
                let stream = TcpStream::connect(address.as_str()).await?;
                Ok(Box::new(wire.tap(host, &address, stream)) as Box<dyn ByteStream>)
            })
        })
    }
}

struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now_ms(&self) -> u64 {
        turmoil::since_epoch().map_or(0, |since| u64::try_from(since.as_millis()).unwrap())
    }
}

fn listen() -> Listen {
    Arc::new(|address| {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            let accepted = futures_util::stream::unfold(listener, |listener| async {
                let stream = listener.accept().await;
                let stream = stream.map(|(stream, _)| Box::new(stream) as Box<dyn ByteStream>);
                Some((stream, listener))
            });
            Ok((address, Box::pin(accepted) as Incoming))
        })
    })
}
