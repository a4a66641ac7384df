//! A run of labelling: what is kept, refused, retried and repeated, with a scripted teacher and with one over HTTP.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use refract_distill::{
    Answer, Ask, Candidate, Config, Error, Fault, Header, Identity, Journal, Label, Manner, OpenAi, Report,
    Shard, Teacher, columns, distill, openai,
};
use refract_domain::{History, Interaction, Item, ItemId, Pair, Signal, TenantId, Timestamp, UserId};
use refract_resilience::backoff;

fn item(id: &str) -> Arc<Item> {
    Arc::new(Item {
        id: ItemId::new(id),
        title: format!("Film {id}"),
        attributes: [("director".to_owned(), vec!["Michael Mann".to_owned()])].into(),
        description: String::new(),
    })
}

fn ask(n: usize) -> Ask {
    let interaction = |m: usize| Interaction {
        item: item(&format!("h{n}-{m}")),
        at: Timestamp(m as i64),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    Ask {
        pair: Pair {
            tenant: TenantId::default(),
            user: Some(UserId::new(format!("u{n}"))),
            item: item(&format!("i{n}")),
            affinities: Vec::new(),
        },
        history: Arc::new(History::new((0..3).map(interaction).collect())),
        part: "train".to_owned(),
    }
}

fn good(ask: &Ask) -> String {
    let liked = &ask.history.interactions()[0].item.title;
    format!(
        "Like {liked}, {} is directed by Michael Mann.",
        ask.pair.item.title
    )
}

/// Answers by a rule, and counts the calls for each ask.
struct Scripted<F> {
    rule: F,
    calls: Mutex<HashMap<String, usize>>,
    all: AtomicUsize,
    second: bool,
}

impl<F> Scripted<F> {
    fn new(rule: F) -> Arc<Self> {
        Arc::new(Self {
            rule,
            calls: Mutex::default(),
            all: AtomicUsize::new(0),
            second: true,
        })
    }
}

#[async_trait]
impl<F: Fn(&Ask, Manner, usize) -> Result<Vec<String>, Fault> + Send + Sync> Teacher for Scripted<F> {
    fn identity(&self) -> Identity {
        Identity {
            name: "scripted".into(),
            revision: "1".into(),
            prompt: "p".into(),
            settings: "s".into(),
        }
    }

    fn has_second_manner(&self) -> bool {
        self.second
    }

    async fn answer(&self, ask: &Ask, manner: Manner) -> Result<Answer, Fault> {
        self.all.fetch_add(1, Ordering::SeqCst);
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let call = calls.entry(ask.id()).or_default();
            *call += 1;
            *call
        };
        let texts = (self.rule)(ask, manner, call)?;
        Ok(Answer {
            candidates: texts
                .into_iter()
                .map(|text| Candidate {
                    text,
                    facts: Vec::new(),
                })
                .collect(),
            prompt_tokens: 10,
            written_tokens: 5,
        })
    }

    fn prompt_tokens(&self, _: &Ask) -> u64 {
        10
    }
}

fn header() -> Header {
    Header {
        teacher: "scripted".into(),
        teacher_revision: "1".into(),
        prompt: "p".into(),
        settings: "s".into(),
        candidates: 4,
        data: "d".into(),
        shard: "1/1".into(),
    }
}

fn quick() -> Config {
    Config {
        in_flight_max: 4,
        backoff: backoff::Config {
            first: Duration::from_millis(1),
            wait_max: Duration::from_millis(4),
        },
        ..Config::default()
    }
}

async fn run(teacher: Arc<dyn Teacher>, asks: usize, config: &Config, path: &Path) -> Result<Report, Error> {
    let mut journal = Journal::open(path, &header())?;
    distill((0..asks).map(ask), teacher, config, &mut journal, |_| {}).await
}

fn labels(path: &Path) -> Vec<Label> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn the_best_candidate_is_kept_with_its_provenance_and_garbage_is_refused_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.jsonl");
    let teacher = Scripted::new(|ask: &Ask, manner, _| {
        let bad = "An uplifting documentary about penguins that everybody adores".to_owned();
        Ok(match (ask.pair.item.id.as_str(), manner) {
            // Only the second, careful try is worth anything.
            ("i1", Manner::Sampled { .. }) => vec![String::new(), bad],
            ("i2", _) => vec!["no no no no no no no no no".to_owned()],
            (_, Manner::Careful) => vec![good(ask)],
            (_, Manner::Sampled { candidates }) => {
                let mut all = vec![bad; candidates - 1];
                all.push(good(ask));
                all
            }
        })
    });
    let report = run(teacher, 4, &quick(), &path).await.unwrap();
    assert_eq!(
        (
            report.labelled,
            report.labelled_carefully,
            report.rejected,
            report.failed
        ),
        (3, 1, 1, 0)
    );
    assert_eq!(report.rejections, [("repetitive".to_owned(), 1)].into());
    assert_eq!(report.sentences_unsupported, 0);
    for label in labels(&path) {
        let n: usize = label.item.id[1..].parse().unwrap();
        assert_eq!(label.text, good(&ask(n)));
        assert_eq!((label.id, label.history.len()), (ask(n).id(), 3));
        assert_eq!(
            label.provenance.manner,
            if n == 1 { "careful" } else { "sampled" }
        );
        assert_eq!(label.provenance.teacher, "scripted");
        assert_eq!(label.history[0].signal.as_deref(), Some("liked"));
    }
}

#[tokio::test]
async fn a_teacher_is_asked_with_what_the_label_keeps_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.jsonl");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let teacher = Scripted::new(move |ask: &Ask, _, _| {
        let ids: Vec<String> = (ask.history.interactions().iter())
            .map(|i| i.item.id.as_str().to_owned())
            .collect();
        told.lock().unwrap().push(ids);
        Ok(vec![good(ask)])
    });
    let config = Config {
        history_items_max: 2,
        ..quick()
    };
    run(teacher, 1, &config, &path).await.unwrap();
    let label = labels(&path).remove(0);
    let kept: Vec<String> = label.history.iter().map(|item| item.id.clone()).collect();
    assert_eq!(kept, ["h0-1", "h0-2"], "the newest");
    assert_eq!(*seen.lock().unwrap(), [kept]);
}

#[tokio::test]
async fn with_the_gate_a_sentence_without_evidence_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = |ask: &Ask| format!("{} It also stars Robert De Niro, like Goodfellas.", good(ask));
    for (gate, labelled) in [(false, 3), (true, 0)] {
        let path = dir.path().join(format!("{gate}.jsonl"));
        let teacher = Scripted::new(move |ask: &Ask, _, _| Ok(vec![text(ask)]));
        let config = Config { gate, ..quick() };
        let report = run(teacher, 3, &config, &path).await.unwrap();
        assert_eq!(report.labelled, labelled, "{report:?}");
        if !gate {
            assert_eq!((report.sentences, report.sentences_unsupported), (6, 3));
        }
    }
}

#[tokio::test]
async fn a_run_goes_on_where_it_was_and_asks_nothing_twice_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.jsonl");
    let answer = |ask: &Ask, _, _| {
        Ok(vec![if ask.pair.item.id.as_str() == "i3" {
            "bad".to_owned()
        } else {
            good(ask)
        }])
    };
    run(Scripted::new(answer), 10, &quick(), &path).await.unwrap();
    assert_eq!(labels(&path).len(), 9);
    // A torn line, as a killed process leaves it: the label of that pair is asked for again.
    let text = std::fs::read_to_string(&path).unwrap();
    let torn = labels(&path).pop().unwrap().item.id;
    std::fs::write(&path, &text[..text.len() - 30]).unwrap();
    let again = Scripted::new(answer);
    let report = run(again.clone(), 12, &quick(), &path).await.unwrap();
    assert_eq!((report.labelled, report.rejected), (3, 0));
    let asked: HashSet<String> = again.calls.lock().unwrap().keys().cloned().collect();
    let expected = [torn[1..].parse().unwrap(), 10, 11].map(|n| ask(n).id());
    assert_eq!(asked, HashSet::from(expected));
    let ids: Vec<String> = labels(&path).into_iter().map(|l| l.id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(ids.len(), 11);
}

#[tokio::test]
async fn two_runs_do_not_mix_in_one_file_and_two_processes_do_not_write_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.jsonl");
    let held = Journal::open(&path, &header()).unwrap();
    assert!(matches!(Journal::open(&path, &header()), Err(Error::Busy { .. })));
    drop(held);
    let other = Header {
        prompt: "q".into(),
        ..header()
    };
    let error = Journal::open(&path, &other).unwrap_err().to_string();
    assert!(error.contains("another prompt (p, now q)"), "{error}");
    std::fs::write(&path, "{\"id\":\"a\"}\nnonsense\n").unwrap();
    let error = Journal::open(&path, &header()).unwrap_err().to_string();
    assert!(error.contains("labels.jsonl:2: no label"), "{error}");
}

#[test]
fn a_file_that_no_run_has_begun_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let label = r#"{"id":"a"}"#.to_owned() + "\n";
    for (name, text) in [
        ("notes.txt", "no end of line"),
        ("labels.jsonl", &label),
        ("a.jsonl.rejected.jsonl", &label),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let out = path.with_file_name(name.trim_end_matches(".rejected.jsonl"));
        let error = Journal::open(&out, &header()).unwrap_err();
        assert!(
            matches!(&error, Error::Foreign { path: named, .. } if *named == path),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains(".run.json is not: it is not the file of a run"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert!(!out.with_file_name(format!("{name}.run.json")).exists());
    }
    // One that is empty is nobody's.
    std::fs::write(dir.path().join("empty"), "").unwrap();
    Journal::open(&dir.path().join("empty"), &header()).unwrap();

    let (table, journal) = (dir.path().join("t.parquet"), dir.path().join("t.parquet.jsonl"));
    columns::check(&journal, &table).unwrap();
    std::fs::write(&table, "somebody's").unwrap();
    let error = columns::check(&journal, &table).unwrap_err().to_string();
    assert!(
        error.contains("t.parquet is there and") && error.contains("t.parquet.jsonl is not"),
        "{error}"
    );
    Journal::open(&journal, &header()).unwrap();
    columns::check(&journal, &table).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failing_teacher_is_retried_within_a_budget_and_then_the_run_stops() {
    let dir = tempfile::tempdir().unwrap();
    let shaky = Scripted::new(|ask: &Ask, _, call| match call {
        1 => Err(Fault::Failed("status 500".into())),
        2 => Err(Fault::Busy {
            after: Some(Duration::from_secs(7)),
        }),
        _ => Ok(vec![good(ask)]),
    });
    let report = run(shaky, 6, &quick(), &dir.path().join("a")).await.unwrap();
    assert_eq!((report.labelled, report.failed, report.retries), (6, 0, 12));
    assert_eq!(
        report.faults,
        [("busy".to_owned(), 6), ("failed".to_owned(), 6)].into()
    );

    let dead = Scripted::new(|_: &Ask, _, _| -> Result<Vec<String>, Fault> {
        Err(Fault::Unreachable("refused".into()))
    });
    let error = run(dead.clone(), 1_000, &quick(), &dir.path().join("b"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Failing { failures: 20, .. }), "{error}");
    // 20 failed asks and those in flight, and at most the budget's retries.
    assert!(
        dead.all.load(Ordering::SeqCst) <= 24 + 50,
        "{}",
        dead.all.load(Ordering::SeqCst)
    );

    let wrong = Scripted::new(|_: &Ask, _, _| -> Result<Vec<String>, Fault> {
        Err(Fault::Hopeless("status 401".into()))
    });
    let error = run(wrong.clone(), 100, &quick(), &dir.path().join("c"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Hopeless { .. }), "{error}");
    assert!(wrong.all.load(Ordering::SeqCst) <= 8);
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_the_rate() {
    let dir = tempfile::tempdir().unwrap();
    let started = tokio::time::Instant::now();
    let config = Config {
        rate_max: Some(5.0),
        ..quick()
    };
    let teacher = Scripted::new(|ask: &Ask, _, _| Ok(vec![good(ask)]));
    run(teacher, 51, &config, &dir.path().join("a")).await.unwrap();
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(9_900)..Duration::from_millis(10_500)).contains(&took),
        "{took:?}"
    );
}

#[test]
fn shards_are_disjoint_and_whole() {
    let ids: Vec<String> = (0..300).map(|n| ask(n).id()).collect();
    for id in &ids {
        let holders = (1..=4)
            .filter(|index| {
                Shard {
                    index: *index,
                    count: 4,
                }
                .holds(id)
            })
            .count();
        assert_eq!(holders, 1);
    }
    assert_eq!("2/8".parse::<Shard>().unwrap().to_string(), "2/8");
    for bad in ["0/4", "5/4", "1", "a/b", "1/0"] {
        assert!(bad.parse::<Shard>().is_err(), "{bad}");
    }
}

/// A teacher over HTTP that plays its script: one entry a request, then the last for ever.
fn endpoint(script: Vec<(u16, &'static str, Duration)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (status, body, wait) = script[n.min(script.len() - 1)];
            let (log, stream) = (log.clone(), stream.unwrap());
            std::thread::spawn(move || serve(stream, status, body, wait, &log));
        }
    });
    (format!("http://{address}/v1"), seen)
}

fn serve(mut stream: TcpStream, status: u16, body: &str, wait: Duration, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    log.lock()
        .unwrap()
        .push(format!("{head}\n{}", String::from_utf8(bytes).unwrap()));
    std::thread::sleep(wait);
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The client may have gone away by then.
    let _gone = stream.write_all(answer.as_bytes());
}

const CHOICES: &str = r#"{"choices":[{"message":{"content":"nonsense"}},{"message":{"content":"\"Like Film h0-0, Film i0 is directed by Michael Mann.\""}}],"usage":{"prompt_tokens":99,"completion_tokens":20}}"#;

#[tokio::test]
async fn an_endpoint_that_is_busy_slow_and_garbled_is_asked_until_it_answers() {
    let none = Duration::ZERO;
    let (url, seen) = endpoint(vec![
        (429, "{}", none),
        (500, "oops", none),
        (200, "<html>not json</html>", none),
        (200, "{\"choices\":[]}", none),
        (200, CHOICES, none),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "secret-credential\n").unwrap();
    let teacher = OpenAi::new(openai::Config::new(&url, "some-model"), Some(&key)).unwrap();
    assert!(!format!("{teacher:?}").contains("secret"));
    let path = dir.path().join("labels.jsonl");
    let report = run(Arc::new(teacher), 1, &quick(), &path).await.unwrap();
    assert_eq!((report.labelled, report.retries), (1, 4), "{report:?}");
    assert_eq!(
        report.faults,
        [
            ("busy".to_owned(), 1),
            ("failed".to_owned(), 1),
            ("garbage".to_owned(), 2)
        ]
        .into()
    );
    assert_eq!((report.prompt_tokens, report.written_tokens), (99, 20));
    let label = labels(&path).remove(0);
    assert_eq!(label.text, "Like Film h0-0, Film i0 is directed by Michael Mann.");
    assert_eq!((label.provenance.candidates, label.provenance.attempts), (2, 5));
    let seen = seen.lock().unwrap();
    let (head, body) = seen[0].split_once("\n{").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.contains("authorization: Bearer secret-credential"));
    let body: serde_json::Value = serde_json::from_str(&format!("{{{body}")).unwrap();
    assert_eq!((&body["n"], &body["model"]), (&4.into(), &"some-model".into()));
    assert!(
        body["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("Recommended: Film i0")
    );
    assert!(!std::fs::read_to_string(&path).unwrap().contains("secret"));
}

#[tokio::test]
async fn an_endpoint_that_never_answers_costs_its_time_and_a_wrong_credential_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _) = endpoint(vec![(200, CHOICES, Duration::from_secs(30))]);
    let teacher = OpenAi::new(
        openai::Config {
            answer_max: Duration::from_millis(80),
            ..openai::Config::new(&url, "m")
        },
        None,
    )
    .unwrap();
    let config = Config {
        attempts_max: 2,
        ..quick()
    };
    let report = run(Arc::new(teacher), 2, &config, &dir.path().join("a"))
        .await
        .unwrap();
    assert_eq!((report.labelled, report.failed), (0, 2));
    assert_eq!(report.faults, [("slow".to_owned(), 4)].into());

    let (url, seen) = endpoint(vec![(401, "{}", Duration::ZERO)]);
    let teacher = OpenAi::new(openai::Config::new(&url, "m"), None).unwrap();
    let error = run(Arc::new(teacher), 50, &quick(), &dir.path().join("b"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("status 401: check the endpoint"),
        "{error}"
    );
    assert!(seen.lock().unwrap().len() <= 8);
}

#[test]
fn an_indexed_job_counts_its_shards_from_nought_and_we_from_one() {
    let shard = |text, job| Shard::parse(text, job).map(|shard| shard.to_string());
    assert_eq!(shard("job/4", Some("0")).unwrap(), "1/4");
    assert_eq!(shard("job/4", Some("3")).unwrap(), "4/4");
    assert_eq!(shard("2/4", Some("3")).unwrap(), "2/4");
    assert!(shard("job/4", Some("4")).is_err());
    assert!(shard("job/4", None).unwrap_err().contains("JOB_COMPLETION_INDEX"));
}
