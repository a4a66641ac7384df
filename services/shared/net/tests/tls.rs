//! Who gets through a secured port, who does not, and what becomes of connections when certificates change.

mod common;
#[path = "common/pki.rs"]
mod pki;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::PATIENCE;
use http::{Request, Response};
use pki::Authority;
use refract_net::{ClientTls, DialConfig, Error, ListenConfig, Listener, PeerNames, ServerTls, dial};
use refract_resilience::drain::{self, Drain};
use tonic::body::Body;
use tower::{Service, ServiceExt};

const NAME: &str = "oracle.test";

struct Secured {
    address: SocketAddr,
    _drain: Drain,
}

/// Answers with the caller's names in a header.
async fn say_names(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let names = request.extensions().get::<PeerNames>();
    let names = names.map_or("nobody".to_owned(), |names| names.0.join(" "));
    let response = Response::builder().header("names", names);
    Ok(response.body(Body::empty()).expect("a response"))
}

async fn serve(tls: Option<ServerTls>) -> Secured {
    let listener = Listener::bind(ListenConfig {
        tls,
        ..ListenConfig::default()
    })
    .await
    .unwrap();
    let address = listener.local_addr();
    let (drain, signal) = drain::pair(drain::Config::brisk());
    tokio::spawn(listener.serve(tower::service_fn(say_names), signal));
    Secured {
        address,
        _drain: drain,
    }
}

fn mutual(folder: &Path, server: &Authority, callers: &Authority) -> ServerTls {
    let files = server.issue(folder, "server", &[NAME]);
    ServerTls {
        client_ca_file: Some(callers.file(folder.join("callers.pem"))),
        reload_every: Duration::from_millis(50),
        ..ServerTls::new(files.cert, files.key)
    }
}

fn caller(folder: &Path, trusts: &Authority, shows: Option<(&Authority, &str)>) -> ClientTls {
    let mut tls = ClientTls::new(trusts.file(folder.join("trusted.pem")));
    tls.server_name = Some(NAME.to_owned());
    if let Some((authority, name)) = shows {
        let files = authority.issue(folder, "caller", &[name]);
        (tls.cert_file, tls.key_file) = (Some(files.cert), Some(files.key));
    }
    tls
}

fn request() -> Request<Body> {
    Request::post("/who").body(Body::empty()).expect("a request")
}

async fn ask(address: SocketAddr, tls: Option<ClientTls>) -> Result<String, Error> {
    let config = DialConfig {
        tls,
        connect_max: PATIENCE,
        ..DialConfig::default()
    };
    let channel = dial(&address.into(), config);
    let response = tokio::time::timeout(PATIENCE, channel.clone().oneshot(request()))
        .await
        .expect("no hang")?;
    Ok(response.headers()["names"].to_str().expect("text").to_owned())
}

#[tokio::test]
async fn a_call_arrives_with_the_names_that_the_caller_proved() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let server = serve(Some(mutual(folder.path(), &ours, &ours))).await;
    let tls = caller(folder.path(), &ours, Some((&ours, "spiffe://test/ranker")));
    assert_eq!(
        ask(server.address, Some(tls)).await.unwrap(),
        "spiffe://test/ranker"
    );

    let files = ours.issue(folder.path(), "open", &[NAME]);
    let open = serve(Some(ServerTls::new(files.cert, files.key))).await;
    let tls = caller(folder.path(), &ours, None);
    assert_eq!(
        ask(open.address, Some(tls)).await.unwrap(),
        "nobody",
        "nobody was asked"
    );
}

#[tokio::test]
async fn strangers_on_either_side_get_no_call_through() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = serve(Some(mutual(folder.path(), &ours, &ours))).await;
    let plain = serve(None).await;
    let here = || tempfile::tempdir_in(folder.path()).unwrap().keep();
    let good = || caller(&here(), &ours, Some((&ours, "ranker.test")));
    let cases = [
        (
            "no certificate",
            server.address,
            Some(caller(&here(), &ours, None)),
        ),
        (
            "a caller of another authority",
            server.address,
            Some(caller(&here(), &ours, Some((&theirs, "ranker.test")))),
        ),
        (
            "a server of another authority",
            server.address,
            Some(caller(&here(), &theirs, Some((&ours, "ranker.test")))),
        ),
        (
            "a server of another name",
            server.address,
            Some(ClientTls {
                server_name: Some("prism.test".to_owned()),
                ..good()
            }),
        ),
        ("plaintext to a secured port", server.address, None),
        ("TLS to a plain port", plain.address, Some(good())),
        (
            "a missing file",
            server.address,
            Some(ClientTls {
                ca_file: folder.path().join("nowhere.pem"),
                ..good()
            }),
        ),
    ];
    for (case, address, tls) in cases {
        let outcome = ask(address, tls).await;
        assert!(
            matches!(outcome, Err(Error::NotReady { .. } | Error::Lost { .. })),
            "{case}: {outcome:?}"
        );
    }
    assert_eq!(
        ask(server.address, Some(good())).await.unwrap(),
        "ranker.test",
        "others are served all the while"
    );
}

#[tokio::test]
async fn new_certificates_serve_new_connections_while_old_ones_stay_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let config = mutual(folder.path(), &old, &old);
    let server = serve(Some(config.clone())).await;
    let client = |authority| {
        let here = tempfile::tempdir_in(folder.path()).unwrap().keep();
        caller(&here, authority, Some((&old, "ranker.test")))
    };
    let mut standing = dial(
        &server.address.into(),
        DialConfig {
            tls: Some(client(&old)),
            ..DialConfig::default()
        },
    );
    standing.call(request()).await.unwrap();

    std::fs::write(&config.cert_file, "half a certif").unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    ask(server.address, Some(client(&old)))
        .await
        .expect("what cannot be used is left alone");

    let files = new.issue(folder.path(), "server", &[NAME]);
    assert_eq!(files.cert, config.cert_file);
    let begun = std::time::Instant::now();
    while let Err(error) = ask(server.address, Some(client(&new))).await {
        assert!(begun.elapsed() < PATIENCE, "never reloaded: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        ask(server.address, Some(client(&old))).await.is_err(),
        "the old authority's certificate is gone"
    );
    standing
        .call(request())
        .await
        .expect("the standing connection stands");
}

#[tokio::test]
async fn a_listener_without_usable_material_does_not_start_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let one = ours.issue(folder.path(), "one", &[NAME]);
    let other = ours.issue(folder.path(), "other", &[NAME]);
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (case, tls, file) in [
        ("another's key", ServerTls::new(&one.cert, &other.key), &one.cert),
        ("no certificate", ServerTls::new(&empty, &one.key), &empty),
        (
            "nothing there",
            ServerTls::new(&one.cert, folder.path().join("no.key")),
            &folder.path().join("no.key"),
        ),
    ] {
        let config = ListenConfig {
            tls: Some(tls),
            ..ListenConfig::default()
        };
        let error = Listener::bind(config).await.expect_err(case).to_string();
        assert!(error.contains(&file.display().to_string()), "{case}: {error}");
    }
}
