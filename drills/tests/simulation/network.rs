//! [`World`]: the simulation's network, time, ids and single thread, in the place of the machine's.

use std::collections::BTreeMap;
use std::sync::Arc;

use richardstore_runtime::{ByteStream, Channels, Dial, Environment, Incoming, Listen, Offload};
use turmoil::net::{TcpListener, TcpStream};

use crate::cluster::HOSTS;
use crate::entropy::SeededEntropy;
use crate::host::Host;
use crate::socket::Socket;
use crate::wire::Wire;

/// The hosts of one run and what they share. Cheap to clone.
#[derive(Clone)]
pub struct World {
    entropy: Arc<SeededEntropy>,
    hosts: Arc<BTreeMap<&'static str, Arc<Host>>>,
    wire: Wire,
}

impl World {
    /// The world of `seed`, overheard by `wire`.
    pub fn new(seed: u64, wire: Wire) -> Self {
        let hosts = HOSTS.map(|name| (name, Arc::default()));
        Self {
            entropy: Arc::new(SeededEntropy::new(seed)),
            hosts: Arc::new(hosts.into()),
            wire,
        }
    }

    /// The host `name`.
    pub fn host(&self, name: &'static str) -> &Arc<Host> {
        &self.hosts[name]
    }

    /// Answers that got lost on their way to anyone.
    pub fn answers_lost(&self) -> u64 {
        self.hosts.values().map(|host| host.answers_lost()).sum()
    }

    /// The environment of one start of the host `name`. Connections end with the start they were opened in, so no two
    /// starts share one.
    pub fn environment(&self, name: &'static str) -> Environment {
        Environment {
            clock: self.host(name).clone(),
            entropy: self.entropy.clone(),
            offload: Offload::Inline,
            channels: Channels::new(self.dial(name)),
            listen: listen(self.host(name).clone()),
        }
    }

    fn dial(&self, name: &'static str) -> Dial {
        let (wire, host) = (self.wire.clone(), self.host(name).clone());
        Arc::new(move |address| {
            let (wire, host) = (wire.clone(), host.clone());
            Box::pin(async move {
                let stream = TcpStream::connect(address.as_str()).await?;
                let socket = Socket::opened(stream, host);
                Ok(Box::new(wire.tap(name, &address, socket)) as Box<dyn ByteStream>)
            })
        })
    }
}

fn listen(host: Arc<Host>) -> Listen {
    Arc::new(move |address| {
        let host = host.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            let accepted =
                futures_util::stream::unfold((listener, host), |(listener, host)| async {
                    let stream = listener.accept().await.map(|(stream, _)| {
                        Box::new(Socket::accepted(stream, &host)) as Box<dyn ByteStream>
                    });
                    Some((stream, (listener, host)))
                });
            Ok((address, Box::pin(accepted) as Incoming))
        })
    })
}
