//! Where the namenode is, and where a role listens.

use clap::Args;

/// The port of a namenode that does not say otherwise.
pub const NAMENODE_PORT: u16 = 9000;

/// The port of a gateway that does not say otherwise.
pub const GATEWAY_PORT: u16 = 8080;

/// Where the namenode is.
#[derive(Debug, Clone, Args)]
pub struct NamenodeAddress {
    /// The namenode: `host:port`, or a host that goes with --namenode-port
    #[arg(
        long,
        env = "NAMENODE_ADDRESS",
        default_value = "127.0.0.1",
        value_name = "HOST[:PORT]"
    )]
    namenode: String,
    /// The namenode's port, where --namenode has none
    #[arg(long, env = "NAMENODE_PORT", default_value_t = NAMENODE_PORT, value_parser = parse_port, value_name = "PORT")]
    namenode_port: u16,
}

/// Where a role listens and is reached.
#[derive(Debug, Clone, Args)]
pub struct Listen {
    /// Address to listen on; port 0 lets the kernel choose
    #[arg(long, env = "RICHARDSTORE_LISTEN", value_name = "HOST[:PORT]")]
    listen: Option<String>,
    /// Port to listen on, on all interfaces unless --listen names one
    #[arg(long, env = "PORT", value_parser = parse_port)]
    port: Option<u16>,
    /// Address under which others reach it, where that is another one
    #[arg(long, env = "RICHARDSTORE_ADVERTISE", value_name = "HOST[:PORT]")]
    pub advertise: Option<String>,
}

impl NamenodeAddress {
    /// `host:port`.
    pub fn resolve(&self) -> String {
        with_port(&self.namenode, self.namenode_port)
    }
}

impl Listen {
    /// `host:port`: what was asked for, else all interfaces with the port asked for, else `default_port` on this machine
    /// only.
    pub fn resolve(&self, default_port: u16) -> String {
        match (&self.listen, self.port) {
            (Some(listen), port) => with_port(listen, port.unwrap_or(default_port)),
            // A port alone is what a container is given, and it has to be reached from outside.
            (None, Some(port)) => with_port("0.0.0.0", port),
            (None, None) => with_port("127.0.0.1", default_port),
        }
    }
}

/// `address` as `host:port`, with `port` where it has none.
pub fn with_port(address: &str, port: u16) -> String {
    let bare_v6 = address.matches(':').count() > 1 && !address.starts_with('[');
    let has_port = !bare_v6
        && address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (has_port, bare_v6) {
        (true, _) => address.to_owned(),
        (false, true) => format!("[{address}]:{port}"),
        (false, false) => format!("{address}:{port}"),
    }
}

/// A port. Kubernetes sets `NAMENODE_PORT` to `tcp://10.0.0.1:9000` where a service is called namenode.
fn parse_port(text: &str) -> Result<u16, String> {
    let digits = match text.strip_prefix("tcp://") {
        Some(address) => address.rsplit(':').next().unwrap_or(address),
        None => text,
    };
    digits
        .parse()
        .map_err(|_| "expected a port number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(listen: Option<&str>, port: Option<u16>) -> String {
        let listen = Listen {
            listen: listen.map(ToOwned::to_owned),
            port,
            advertise: None,
        };
        listen.resolve(9001)
    }

    #[test]
    fn a_port_alone_listens_on_all_interfaces() {
        assert_eq!(listen(None, None), "127.0.0.1:9001");
        assert_eq!(listen(None, Some(50)), "0.0.0.0:50");
        assert_eq!(listen(Some("10.0.0.1"), Some(50)), "10.0.0.1:50");
        assert_eq!(listen(Some("10.0.0.1:0"), Some(50)), "10.0.0.1:0");
    }

    #[test]
    fn the_namenode_may_be_named_in_one_or_in_two() {
        for (namenode, expected) in [
            ("namenode", "namenode:9000"),
            ("namenode:7", "namenode:7"),
            ("::1", "[::1]:9000"),
            ("[::1]:7", "[::1]:7"),
        ] {
            let address = NamenodeAddress {
                namenode: namenode.to_owned(),
                namenode_port: NAMENODE_PORT,
            };
            assert_eq!(address.resolve(), expected);
        }
    }

    #[test]
    fn a_port_as_kubernetes_writes_it_is_understood() {
        assert_eq!(parse_port("tcp://10.43.0.1:9000"), Ok(9000));
        assert_eq!(parse_port("9000"), Ok(9000));
        assert!(parse_port("tcp://x").is_err());
    }
}
