//! The Oracle as a process: its bundle behind its gRPC service, at its station.

use refract_bundle::Role;
use refract_chassis::Running;
use refract_station::{Station, models};
use refract_wire::reflection::ORACLE_SERVICE;
use refract_wire::trace::SharedPropagator;
use refract_wire::{Items, Rules, oracle as wire, server};

use crate::config::Config;
use crate::oracle::Oracle;

/// Loads the bundle (a bad one is refused here, before any port is open) and starts serving; ready once it is warm.
///
/// `in_force` is what its admin port shows as its configuration.
pub async fn start(
    config: Config,
    propagator: SharedPropagator,
    in_force: String,
) -> anyhow::Result<Running> {
    config.check().map_err(|unfit| unfit.within("oracle"))?;
    let worker = models::open("oracle", config.worker, Role::Oracle).await?;
    let wire_config = server::Config {
        deadline_cap: config.call_cap,
        rules: Rules {
            items: Items::holding(config.items_bytes_max),
            ..Rules::default()
        },
        propagator,
        ..server::Config::default()
    };
    let info = models::info("oracle", &worker);
    let service = wire::Server::new(Oracle::new(worker.clone()), info, wire_config).into_service();

    let station = Station::new(
        "oracle",
        ORACLE_SERVICE,
        config.listen,
        config.callers,
        config.process,
    )
    .granting(config.call_cap)
    .showing_config(in_force);
    let warm_up = models::warm_up(worker, station.health().clone());
    station.start(service, warm_up).await
}
