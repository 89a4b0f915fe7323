//! [`environment`]: the simulation's network, time and single thread, in the place of the machine's.

use std::sync::Arc;

use richardstore_runtime::{
    ByteStream, Channels, Clock, Dial, Environment, Incoming, Listen, Offload,
};
use turmoil::net::{TcpListener, TcpStream};

/// The environment of one start of one simulated host. Connections end with the start they were opened in, so no two
/// starts share one.
pub fn environment() -> Environment {
    Environment {
        clock: Arc::new(SimulatedClock),
        offload: Offload::Inline,
        channels: Channels::new(dial()),
        listen: listen(),
    }
}

struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now_ms(&self) -> u64 {
        turmoil::since_epoch().map_or(0, |since| u64::try_from(since.as_millis()).unwrap())
    }
}

fn dial() -> Dial {
    Arc::new(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    })
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
