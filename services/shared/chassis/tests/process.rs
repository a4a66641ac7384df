//! A service's life as its probes and its callers see it, over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use refract_chassis::{Process, Running, drain, process};
use refract_net::{DialConfig, ListenConfig, Target, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const SERVICE: &str = "refract.oracle.v1.OracleService";
const PATIENCE: Duration = Duration::from_secs(20);

async fn in_time<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}

/// A service with nothing but health, which is warm when told so.
async fn start(leaving: drain::Config) -> (Running, oneshot::Sender<anyhow::Result<()>>) {
    let config = process::Config {
        drain: leaving,
        ..process::Config::default()
    };
    let process = Process::new("oracle", &[SERVICE], config).showing_config("level = \"info\"\n".to_owned());
    let routes = tonic::service::Routes::new(process.health().service());
    let (address, server) = refract_net::serve(ListenConfig::default(), routes, process.signal())
        .await
        .unwrap();
    let (warm, warmed) = oneshot::channel();
    let running = process
        .start(address, server, async move { warmed.await? })
        .await
        .unwrap();
    (running, warm)
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut peer = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(peer.read_to_string(&mut answer)).await.unwrap();
    answer
}

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

fn said(answer: HealthCheckResponse) -> ServingStatus {
    answer.status()
}

async fn check(address: SocketAddr, service: &str) -> Result<ServingStatus, tonic::Code> {
    let mut client = HealthClient::new(dial(&Target::from(address), DialConfig::default()));
    in_time(client.check(asked(service)))
        .await
        .map(|a| said(a.into_inner()))
        .map_err(|status| status.code())
}

#[tokio::test]
async fn it_is_alive_at_once_ready_when_warm_and_not_ready_on_drain() {
    // The drain stays in its lameduck phase until the test says otherwise.
    let lame = drain::Config {
        lameduck: PATIENCE * 10,
        finish_max: PATIENCE * 10,
    };
    let (running, warm) = start(lame).await;
    let (data, admin) = (running.address(), running.admin_address());

    assert!(get(admin, "/livez").await.starts_with("HTTP/1.1 200"));
    let starting = get(admin, "/readyz").await;
    assert!(
        starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"),
        "{starting}"
    );
    for port in [data, admin] {
        assert_eq!(check(port, "").await, Ok(ServingStatus::NotServing));
        assert_eq!(check(port, "ready").await, Ok(ServingStatus::NotServing));
        assert_eq!(check(port, SERVICE).await, Ok(ServingStatus::NotServing));
        assert_eq!(check(port, "live").await, Ok(ServingStatus::Serving));
        assert_eq!(check(port, "nobody").await, Err(tonic::Code::NotFound));
    }

    warm.send(Ok(())).unwrap();
    in_time(running.ready()).await.unwrap();
    assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200"));
    for port in [data, admin] {
        assert_eq!(check(port, "").await, Ok(ServingStatus::Serving));
        assert_eq!(check(port, SERVICE).await, Ok(ServingStatus::Serving));
    }

    let running = std::sync::Arc::new(running);
    let draining = tokio::spawn({
        let running = std::sync::Arc::clone(&running);
        async move { running.drain().await }
    });
    in_time(async {
        while running.health().readiness().is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Lame, but still serving whoever asks.
    assert_eq!(check(data, SERVICE).await, Ok(ServingStatus::NotServing));
    assert_eq!(check(admin, "live").await, Ok(ServingStatus::Serving));
    assert!(get(admin, "/readyz").await.ends_with("draining\n"));

    running.close();
    in_time(draining).await.unwrap();
    let running = std::sync::Arc::into_inner(running).unwrap();
    in_time(running.wait()).await.unwrap();
    assert!(TcpStream::connect(data).await.is_err(), "the data port is closed");
}

#[tokio::test]
async fn watches_hear_each_change_and_never_delay_the_drain() {
    let endless = drain::Config {
        lameduck: Duration::ZERO,
        finish_max: PATIENCE * 10,
    };
    let (running, warm) = start(endless).await;
    let mut client = HealthClient::new(dial(&Target::from(running.address()), DialConfig::default()));
    let mut ready = in_time(client.watch(asked(SERVICE))).await.unwrap().into_inner();
    let mut nobody = in_time(client.watch(asked("nobody"))).await.unwrap().into_inner();
    assert_eq!(
        said(in_time(ready.message()).await.unwrap().unwrap()),
        ServingStatus::NotServing
    );
    assert_eq!(
        said(in_time(nobody.message()).await.unwrap().unwrap()),
        ServingStatus::ServiceUnknown
    );
    warm.send(Ok(())).unwrap();
    assert_eq!(
        said(in_time(ready.message()).await.unwrap().unwrap()),
        ServingStatus::Serving
    );

    running.drain().await;
    assert_eq!(
        said(in_time(ready.message()).await.unwrap().unwrap()),
        ServingStatus::NotServing
    );
    assert!(in_time(ready.message()).await.unwrap().is_none());
    assert!(in_time(nobody.message()).await.unwrap().is_none());
    in_time(running.wait()).await.unwrap();
}

#[tokio::test]
async fn a_failed_warm_up_ends_the_service_with_its_reason() {
    let (running, warm) = start(drain::Config::brisk()).await;
    warm.send(Err(anyhow::anyhow!("model.safetensors: tensor missing")))
        .unwrap();
    let error = in_time(running.ready()).await.unwrap_err();
    assert!(error.to_string().contains("tensor missing"), "{error}");
    let error = in_time(running.wait()).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("oracle: warm-up failed: model.safetensors"),
        "{error:#}"
    );
}

#[tokio::test]
async fn leaving_before_it_is_warm_is_in_order_too() {
    let (running, _never) = start(drain::Config::brisk()).await;
    running.drain().await;
    assert!(in_time(running.ready()).await.is_err());
    in_time(running.wait()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_ends_by_itself_is_a_failure() {
    let process = Process::new("prism", &[], process::Config::default());
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let running = process
        .start(nowhere, async {}, std::future::pending())
        .await
        .unwrap();
    let error = in_time(running.wait()).await.unwrap_err();
    assert!(error.to_string().contains("ended by itself"), "{error}");
}

#[tokio::test]
async fn several_services_live_in_one_process() {
    let (first, warm_first) = start(drain::Config::brisk()).await;
    let (second, _never) = start(drain::Config::brisk()).await;
    warm_first.send(Ok(())).unwrap();
    in_time(first.ready()).await.unwrap();
    assert_ne!(
        (first.address(), first.admin_address()),
        (second.address(), second.admin_address())
    );
    assert_eq!(check(second.address(), "").await, Ok(ServingStatus::NotServing));
    first.drain().await;
    in_time(first.wait()).await.unwrap();
    assert!(second.health().is_live());
}

#[tokio::test]
async fn the_admin_port_shows_what_is_in_force() {
    let (running, _never) = start(drain::Config::brisk()).await;
    assert!(
        get(running.admin_address(), "/configz")
            .await
            .ends_with("level = \"info\"\n")
    );
    assert!(
        get(running.admin_address(), "/metrics")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        get(running.admin_address(), "/other")
            .await
            .starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn a_taken_admin_port_is_named() {
    let (running, _never) = start(drain::Config::brisk()).await;
    let mut config = process::Config::default();
    config.admin.address = running.admin_address().to_string();
    let process = Process::new("prism", &[], config);
    let error = process
        .start(running.address(), async {}, async { Ok(()) })
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains(&running.admin_address().to_string()),
        "{error:#}"
    );
}

#[tokio::test]
async fn connections_that_ask_nothing_do_not_take_the_places_of_probes() {
    let config = process::Config {
        admin: refract_chassis::admin::Config {
            connections_max: 2,
            first_request_max: Duration::from_millis(20),
            ..refract_chassis::admin::Config::default()
        },
        ..process::Config::default()
    };
    let process = Process::new("oracle", &[SERVICE], config);
    let signal = process.signal();
    let server = async move {
        signal.closing().await;
    };
    let running = process
        .start("127.0.0.1:1".parse().unwrap(), server, async { Ok(()) })
        .await
        .unwrap();
    let admin = running.admin_address();
    let _silent = TcpStream::connect(admin).await.unwrap();
    // It may still become HTTP/2.
    let mut undecided = TcpStream::connect(admin).await.unwrap();
    undecided.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    assert!(in_time(get(admin, "/livez")).await.starts_with("HTTP/1.1 200"));
}
