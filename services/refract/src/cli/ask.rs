//! What the commands that call a running ranker can be told: `refract recommend`, `refract explain`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Address of a ranker.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7001",
        env = "REFRACT_TARGET"
    )]
    pub(crate) target: String,
    /// Give up after this long.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) deadline: std::time::Duration,
    /// TLS: the authorities (PEM) that the ranker's certificate must come from.
    #[arg(long, value_name = "FILE", env = "REFRACT_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate (PEM), where the ranker asks for one.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"], env = "REFRACT_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert", env = "REFRACT_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// The name in the ranker's certificate, where it is not the target's host.
    #[arg(long, value_name = "NAME", requires = "ca", env = "REFRACT_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
    /// A file with the token that says who asks.
    #[arg(long, value_name = "FILE", env = "REFRACT_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl Target {
    /// What a client needs to know.
    pub(crate) fn options(&self) -> anyhow::Result<refract_client::Options> {
        let parsed: refract_net::Target = self
            .target
            .parse()
            .with_context(|| format!("--target {}", self.target))?;
        let tls = self.ca.clone().map(|ca_file| refract_net::ClientTls {
            ca_file,
            cert_file: self.cert.clone(),
            key_file: self.key.clone(),
            server_name: self.server_name.clone(),
        });
        let token = self
            .token_file
            .as_deref()
            .map(refract_client::token_from)
            .transpose()?;
        Ok(refract_client::Options {
            tls,
            token,
            deadline: self.deadline,
            propagator: crate::cluster::propagator(),
            ..refract_client::Options::at(parsed)
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Recommend {
    #[command(flatten)]
    pub(crate) target: Target,
    /// For whom.
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// How many items.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
    /// Only items with this attribute value, e.g. `genre=comedy`; repeat to combine.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Varies the wording.
    #[arg(long, default_value_t = 0)]
    pub(crate) style: u32,
    /// Events as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) target: Target,
    /// For whom.
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// Which items, by id; repeat it.
    #[arg(long = "item", value_name = "ID", required = true)]
    pub(crate) items: Vec<String>,
    /// Varies the wording.
    #[arg(long, default_value_t = 0)]
    pub(crate) style: u32,
    /// Events as lines of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
