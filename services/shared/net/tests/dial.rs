//! Which endpoint gets a call, and what happens to calls when endpoints come and go.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{call, channel, in_time, plain, serve, until};
use refract_net::{DialConfig, EndpointStatus, Error, ListenConfig, Target, dial};
use refract_resilience::drain;
use tokio::net::TcpListener;

/// An address where nobody listens.
async fn dead_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

#[tokio::test]
async fn a_dead_endpoint_is_never_picked_while_another_lives() {
    let server = plain().await;
    let channel = channel(&format!("{},{}", server.address, dead_address().await));
    for _ in 0..200 {
        in_time(call(&channel, "/quick")).await.unwrap();
    }
    until(|| {
        channel
            .endpoints()
            .iter()
            .any(|endpoint| endpoint.status == EndpointStatus::Failed)
    })
    .await;
    let failed = channel
        .endpoints()
        .into_iter()
        .find(|e| e.status == EndpointStatus::Failed)
        .unwrap();
    assert!(!failed.last_error.is_empty());
}

#[tokio::test]
async fn an_endpoint_that_accepts_and_says_nothing_is_never_picked() {
    let server = plain().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(&format!("{},{}", server.address, silent.local_addr().unwrap()));
    for _ in 0..100 {
        in_time(call(&channel, "/quick")).await.unwrap();
    }
}

#[tokio::test]
async fn when_all_are_dead_a_call_fails_at_once_and_was_not_sent() {
    let channel = channel(&dead_address().await);
    until(|| {
        channel
            .endpoints()
            .iter()
            .all(|e| e.status == EndpointStatus::Failed)
            && !channel.endpoints().is_empty()
    })
    .await;
    let error = in_time(call(&channel, "/quick")).await.unwrap_err();
    assert!(error.is_unsent(), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_server_that_comes_back_on_its_port_is_found_again() {
    let server = plain().await;
    let address = server.address.to_string();
    let channel = channel(&address);
    in_time(call(&channel, "/quick")).await.unwrap();
    server.kill().await;
    until(|| !channel.is_ready()).await;
    assert!(in_time(call(&channel, "/quick")).await.is_err());

    let _again = serve(ListenConfig::at(address), drain::Config::brisk()).await;
    in_time(channel.ready()).await;
    in_time(call(&channel, "/quick")).await.unwrap();
}

#[tokio::test]
async fn a_rolling_restart_of_one_of_two_servers_loses_no_call() {
    let (leaving, staying) = (plain().await, plain().await);
    let channel = channel(&format!("{},{}", leaving.address, staying.address));
    until(|| {
        channel
            .endpoints()
            .iter()
            .filter(|e| e.status == EndpointStatus::Ready)
            .count()
            == 2
    })
    .await;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    call(&channel, "/quick").await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    leaving.until_calls(50).await;
    leaving.drain.close();
    in_time(leaving.life).await.unwrap();
    for caller in callers {
        in_time(caller).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_less_busy_of_two_gets_the_call() {
    let (busy, idle) = (plain().await, plain().await);
    let channel = channel(&format!("{},{}", busy.address, idle.address));
    until(|| {
        channel
            .endpoints()
            .iter()
            .filter(|e| e.status == EndpointStatus::Ready)
            .count()
            == 2
    })
    .await;
    // One held call lies on one of them; from then on the other one is the less busy.
    let held = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "/held").await }
    });
    until(|| busy.stats.calls() + idle.stats.calls() == 1).await;
    let other = if busy.stats.calls() == 1 { &idle } else { &busy };
    for _ in 0..50 {
        in_time(call(&channel, "/quick")).await.unwrap();
    }
    assert_eq!(other.desk.calls.load(Ordering::SeqCst), 50);
    held.abort();
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_server_and_no_longer_counted() {
    let server = plain().await;
    let channel = channel(&server.address.to_string());
    let held = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "/held").await }
    });
    server.until_calls(1).await;
    assert_eq!(channel.endpoints()[0].calls, 1);
    held.abort();
    until(|| channel.endpoints()[0].calls == 0 && server.stats.calls() == 0).await;
}

#[tokio::test]
async fn calls_above_the_bound_of_a_connection_are_refused() {
    let server = plain().await;
    let config = DialConfig {
        calls_per_connection_max: 2,
        ..DialConfig::default()
    };
    let channel = dial(&Target::from(server.address), config);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { call(&channel, "/held").await })
        })
        .collect();
    server.until_calls(2).await;
    let error = in_time(call(&channel, "/quick")).await.unwrap_err();
    assert!(
        error.is_unsent() && error.to_string().contains("calls_per_connection_max"),
        "{error}"
    );
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_name_is_looked_up_and_called() {
    let server = plain().await;
    let channel = channel(&format!("dns:localhost:{}", server.address.port()));
    in_time(channel.ready()).await;
    in_time(call(&channel, "/quick")).await.unwrap();
}

#[tokio::test]
async fn grpc_clients_read_a_lost_or_missing_connection_as_unavailable() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let channel = channel(&dead_address().await);
    let status = in_time(HealthClient::new(channel).check(HealthCheckRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");

    let server = serve(ListenConfig::default(), drain::Config::brisk()).await;
    let channel = common::channel(&server.address.to_string());
    let held = tokio::spawn(async move { call(&channel, "/held").await.unwrap_err() });
    server.until_calls(1).await;
    server.kill().await;
    let status = tonic::Status::from_error(Box::new(in_time(held).await.unwrap()));
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn grpc_services_and_clients_meet_over_it() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("a", tonic_health::ServingStatus::NotServing)
        .await;
    let (_drain, signal) = drain::pair(drain::Config::brisk());
    let routes = tonic::service::Routes::new(health);
    let (address, server) = refract_net::serve(ListenConfig::default(), routes, signal)
        .await
        .unwrap();
    tokio::spawn(server);

    let mut client = HealthClient::new(dial(&Target::from(address), DialConfig::default()));
    let asked = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    assert_eq!(
        in_time(client.check(asked("")))
            .await
            .unwrap()
            .into_inner()
            .status,
        1
    );
    assert_eq!(
        in_time(client.check(asked("a")))
            .await
            .unwrap()
            .into_inner()
            .status,
        2
    );
    assert_eq!(
        in_time(client.check(asked("b"))).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    let mut watch = in_time(client.watch(asked("a"))).await.unwrap().into_inner();
    assert_eq!(in_time(watch.message()).await.unwrap().unwrap().status, 2);
    reporter
        .set_service_status("a", tonic_health::ServingStatus::Serving)
        .await;
    assert_eq!(in_time(watch.message()).await.unwrap().unwrap().status, 1);
}

#[test]
fn limits_that_do_not_fit_are_named() {
    assert_eq!(DialConfig::default().check(), Ok(()));
    assert_eq!(ListenConfig::default().check(), Ok(()));
    let dialling = DialConfig {
        connect_max: Duration::ZERO,
        ..DialConfig::default()
    };
    assert_eq!(dialling.check().unwrap_err().key, "connect_max");
    let listening = ListenConfig {
        address: "8101".to_owned(),
        ..ListenConfig::default()
    };
    assert_eq!(listening.check().unwrap_err().key, "address");
}

#[tokio::test]
async fn an_endpoint_whose_answers_speak_against_it_is_left_out_and_taken_back() {
    let (faulty, sound) = (plain().await, plain().await);
    faulty.desk.is_faulty.store(true, Ordering::SeqCst);
    let target: Target = format!("{},{}", faulty.address, sound.address).parse().unwrap();
    let mut config = DialConfig::default();
    config.eject.out_first = Duration::from_millis(500);
    config.eject.out_max = Duration::from_millis(500);
    let channel = dial(&target, config).judged_by(|headers| Some(headers.get("x-fault")? == "1"));
    until(|| {
        let endpoints = channel.endpoints();
        endpoints.len() == 2 && endpoints.iter().all(|e| e.status == EndpointStatus::Ready)
    })
    .await;
    let calls = |server: &common::Server| server.desk.calls.load(Ordering::SeqCst);
    while calls(&faulty) < 5 {
        in_time(call(&channel, "/quick")).await.unwrap();
    }
    // Whatever time passes in here, it comes back for a single call at most.
    let before = calls(&sound);
    for _ in 0..40 {
        in_time(call(&channel, "/quick")).await.unwrap();
    }
    assert!(calls(&sound) - before >= 35, "{}", calls(&sound) - before);
    faulty.desk.is_faulty.store(false, Ordering::SeqCst);
    let before = calls(&faulty);
    let back = async {
        while calls(&faulty) < before + 20 {
            call(&channel, "/quick").await.unwrap();
        }
    };
    in_time(back).await;
}
