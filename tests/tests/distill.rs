//! Labelling as a process: killed at any moment it loses only what is in flight, and repeats nothing that was answered.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use refract_tests::{binary, json_lines, run};
use serde_json::Value;

const PAIRS: usize = 120;
const IN_FLIGHT: usize = 4;

type Asked = Arc<Mutex<HashMap<String, usize>>>;

/// A teacher that answers every prompt after a moment, and counts how often it was asked each.
fn teacher() -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Asked::default();
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || serve(stream, &count));
        }
    });
    (address, asked)
}

/// Serves one connection until the caller goes, be it killed.
fn serve(mut stream: TcpStream, asked: &Asked) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        let prompt = body["messages"][0]["content"].as_str()?.to_owned();
        *asked.lock().ok()?.entry(prompt.clone()).or_default() += 1;
        std::thread::sleep(Duration::from_millis(15));
        // Something that the prompt supports: the first liked title and the recommended one.
        let title = |cue: &str| {
            let rest = prompt.split_once(cue).map_or("", |(_, rest)| rest);
            rest.split([';', '(', '\n'])
                .next()
                .unwrap_or("")
                .trim()
                .to_owned()
        };
        let text = format!(
            "You liked {}, so {} may be one for you as well.",
            title("newest first:\n- "),
            title("Recommended: ")
        );
        let answer = serde_json::json!({"choices": [{"message": {"content": text}}]}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all((head + &answer).as_bytes()).ok()?;
    }
}

fn arguments(address: SocketAddr, out: &Path) -> Vec<String> {
    let mut words: Vec<String> = [
        "distill",
        "--json",
        "--model",
        "m",
        "--pairs-per-user",
        "1",
        "--candidates",
        "1",
    ]
    .map(str::to_owned)
    .to_vec();
    words.extend(["--endpoint".to_owned(), format!("http://{address}/v1")]);
    words.extend(["--limit".to_owned(), PAIRS.to_string()]);
    words.extend(["--in-flight-max".to_owned(), IN_FLIGHT.to_string()]);
    words.extend(["--out".to_owned(), out.display().to_string()]);
    words
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
}

#[test]
fn kill_9_loses_what_is_in_flight_and_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("labels.jsonl");
    let (address, asked) = teacher();
    let mut kills = 0;
    for stop_at in [20, 60, usize::MAX] {
        let mut child = Command::new(binary())
            .args(arguments(address, &out))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("refract starts");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                assert!(status.success(), "{status}");
                break;
            }
            if lines(&out) >= stop_at {
                // SIGKILL: nothing of the process runs after it.
                child.kill().expect("kill -9");
                child.wait().expect("an end");
                kills += 1;
                break;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{} lines",
                lines(&out)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert_eq!(kills, 2);
    let text = std::fs::read_to_string(&out).expect("labels");
    let mut ids: Vec<String> = text
        .lines()
        .map(|line| {
            let label: Value = serde_json::from_str(line).expect("a whole line");
            assert_eq!(label["provenance"]["prompt"], "faithful-1");
            label["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    let labelled = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), labelled, "a pair was labelled twice");
    let asked = asked.lock().expect("counts");
    let rejected = lines(&out.with_file_name("labels.jsonl.rejected.jsonl"));
    assert_eq!(labelled + rejected, PAIRS);
    // A refused pair is asked twice, as it should be: once by sampling, once carefully.
    let all: usize = asked.values().sum();
    let most = PAIRS + rejected + kills * IN_FLIGHT;
    assert!((PAIRS..=most).contains(&all), "{all} requests, {most} at most");

    // A further run has nothing to do, and asks nobody.
    drop(asked);
    let report = json_lines(&run(&arguments(address, &out)
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()));
    let labelled = report.iter().find(|row| row["name"] == "distill/labelled");
    assert_eq!(labelled.expect("a row")["value"], 0.0);
}

#[test]
fn a_dry_run_says_what_it_would_cost_and_asks_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("labels.jsonl");
    let (address, asked) = teacher();
    let mut words = arguments(address, &out);
    let more = [
        "--dry-run",
        "--rate-max",
        "2",
        "--price-prompt",
        "1",
        "--price-written",
        "4",
    ];
    words.extend(more.map(str::to_owned));
    let rows = json_lines(&run(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    let value = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == format!("distill/{name}"));
        row.and_then(|row| row["value"].as_f64())
            .unwrap_or_else(|| panic!("{name}: {rows:?}"))
    };
    assert_eq!(value("pairs"), PAIRS as f64);
    assert_eq!(value("time_at_rate"), PAIRS as f64 / 2.0);
    assert!(value("prompt_tokens") > 100.0 * PAIRS as f64 && value("cost/usual") < value("cost/most"));
    assert!(!out.exists() && asked.lock().expect("counts").is_empty());
}

#[test]
fn parquet_is_written_at_the_end_from_the_lines_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("labels.parquet");
    let (address, asked) = teacher();
    let words = arguments(address, &out);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(run(&words).status.success());
    let labelled = lines(&folder.path().join("labels.parquet.jsonl"));
    assert!(labelled > PAIRS / 2, "{labelled}");
    let bytes = std::fs::read(&out).expect("a table");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    // Gone on with: nobody is asked, the same table is written.
    let before: usize = asked.lock().expect("counts").values().sum();
    assert!(run(&words).status.success());
    assert_eq!(asked.lock().expect("counts").values().sum::<usize>(), before);
    assert_eq!(std::fs::read(&out).expect("a table"), bytes);
}
