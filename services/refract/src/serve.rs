//! `refract serve`: one role of a cluster, or all of them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use refract_chassis::config::{self, Sources};
use refract_chassis::process::run_until_signal;
use refract_chassis::{Running, panics, telemetry};
use refract_worker::Device;

use crate::assets::Assets;
use crate::cli::{Role, Serve};
use crate::cluster::{Cluster, Config, propagator};

/// Ports where the configuration names none: data, then admin.
const PORTS: [(Role, u16, u16); 3] = [
    (Role::Ranker, 7001, 7101),
    (Role::Oracle, 7002, 7102),
    (Role::Prism, 7003, 7103),
];

pub(crate) fn run(args: &Serve) -> Result<()> {
    let config = gather(args)?;
    if args.print_config {
        print!("{}", config::render(&config)?);
        return Ok(());
    }
    panics::install();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(args, config))
}

async fn serve(args: &Serve, config: Config) -> Result<()> {
    let _telemetry = telemetry::install(args.role.service(), &config.telemetry)?;
    refract_engine::metrics::describe();
    refract_knowledge::metrics::describe();
    refract_wire::meter::describe();
    refract_net::describe();
    let in_force = config::render(&config)?;
    let running = match args.role {
        Role::All => Box::pin(Cluster::start(config)).await?.into_running(),
        Role::Ranker => vec![Box::pin(refract_ranker::start(config.ranker, propagator(), in_force)).await?],
        Role::Oracle => vec![refract_oracle::start(config.oracle, propagator(), in_force).await?],
        Role::Prism => vec![refract_prism::start(config.prism, propagator(), in_force).await?],
    };
    for service in &running {
        service.ready().await?;
        eprintln!(
            "{:<7} {}   admin {}",
            service.name(),
            service.address(),
            service.admin_address()
        );
    }
    if let Some(file) = &args.ready_file {
        write_ready(file, &running)?;
    }
    run_until_signal(running).await
}

/// File, environment, flags; then what the shipped assets can fill in.
fn gather(args: &Serve) -> Result<Config> {
    let mut sources = Sources::new().process_environment().overrides(args.set.clone());
    if let Some(file) = &args.config {
        sources = sources.file(file);
    }
    let mut config: Config = config::load(&sources)?;
    place(args, &mut config)?;
    let unset = |path: &Path| path.as_os_str().is_empty();
    let wants = |role: Role| args.role == Role::All || args.role == role;
    let (data, oracle, prism) = (
        &mut config.ranker.data,
        &mut config.oracle.worker.bundle,
        &mut config.prism.worker.bundle,
    );
    if (wants(Role::Ranker) && unset(data))
        || (wants(Role::Oracle) && unset(oracle))
        || (wants(Role::Prism) && unset(prism))
    {
        let assets = Assets::find(args.assets.as_deref()).context(
            "set ranker.data, oracle.worker.bundle and prism.worker.bundle, or use the shipped ones",
        )?;
        if wants(Role::Ranker) && unset(data) {
            *data = assets.data();
            config.ranker.model.get_or_insert(assets.ranker());
        }
        if wants(Role::Oracle) && unset(oracle) {
            *oracle = assets.oracle();
        }
        if wants(Role::Prism) && unset(prism) {
            *prism = assets.prism();
        }
    }
    for (role, port, admin_port) in PORTS.into_iter().filter(|_| !args.any_port) {
        let (listen, admin) = match role {
            Role::Oracle => (&mut config.oracle.listen, &mut config.oracle.process.admin),
            Role::Prism => (&mut config.prism.listen, &mut config.prism.process.admin),
            Role::Ranker | Role::All => (&mut config.ranker.listen, &mut config.ranker.process.admin),
        };
        // The library's default is any free port, which is right for tests and useless for callers.
        if listen.address == refract_net::ListenConfig::default().address {
            listen.address = format!("127.0.0.1:{port}");
        }
        if admin.address == refract_chassis::admin::Config::default().address {
            admin.address = format!("127.0.0.1:{admin_port}");
        }
    }
    Ok(config)
}

/// The flags that say where the role's model lives.
fn place(args: &Serve, config: &mut Config) -> Result<()> {
    let asked = &args.place;
    if asked.devices.is_empty() && asked.tensor_parallel == 0 {
        return Ok(());
    }
    let worker = match args.role {
        Role::Oracle => &mut config.oracle.worker,
        Role::Prism => &mut config.prism.worker,
        Role::All => bail!(
            "--devices and --tensor-parallel are for one model: say `--set oracle.worker.devices=…` or `--set prism.worker.devices=…`"
        ),
        Role::Ranker => {
            bail!("--devices and --tensor-parallel are for the Oracle or a Prism; the ranker has no model")
        }
    };
    if !asked.devices.is_empty() {
        worker.devices = asked.devices.iter().copied().map(Device).collect();
    }
    if asked.tensor_parallel > 0 {
        worker.tensor_parallel = asked.tensor_parallel;
    }
    Ok(())
}

/// Written whole or not at all: whoever waits for the file never reads half of it.
fn write_ready(file: &Path, running: &[Running]) -> Result<()> {
    let addresses: serde_json::Map<String, serde_json::Value> = running
        .iter()
        .map(|s| {
            let place = serde_json::json!({"address": s.address().to_string(), "admin": s.admin_address().to_string()});
            (s.name().to_owned(), place)
        })
        .collect();
    let partial = file.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec(&addresses)?)
        .with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, file).with_context(|| format!("writing {}", file.display()))
}
