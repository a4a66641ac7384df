//! SIGTERM, as an orchestrator sends it. Alone in its file, because signals reach the whole test process.

use refract_chassis::{Process, drain, process};
use refract_net::ListenConfig;

#[tokio::test]
async fn a_signal_lets_all_services_leave_in_order() {
    let mut running = Vec::new();
    for name in ["oracle", "prism"] {
        let config = process::Config {
            drain: drain::Config::brisk(),
            ..process::Config::default()
        };
        let process = Process::new(name, &[], config);
        let routes = tonic::service::Routes::new(process.health().service());
        let (address, server) = refract_net::serve(ListenConfig::default(), routes, process.signal())
            .await
            .unwrap();
        running.push(process.start(address, server, async { Ok(()) }).await.unwrap());
    }
    for service in &running {
        service.ready().await.unwrap();
    }
    let addresses: Vec<_> = running.iter().map(process::Running::address).collect();
    let all = tokio::spawn(process::run_until_signal(running));
    // One turn of this single-threaded runtime: the listener for signals stands before one is sent.
    tokio::task::yield_now().await;
    assert!(!all.is_finished());

    let sent = std::process::Command::new("kill")
        .args(["-TERM", &std::process::id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    tokio::time::timeout(std::time::Duration::from_secs(20), all)
        .await
        .expect("it hangs")
        .unwrap()
        .unwrap();
    for address in addresses {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
