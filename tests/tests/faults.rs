//! The river as real processes, and what a caller sees when one of them is killed.

use refract_domain::{Error, Resource, Rung};
use refract_tests::{Redis, Service, recommend};

/// Users of the shipped data.
const USERS: [&str; 4] = [
    "noir-and-heists",
    "space-opera",
    "korean-thrillers",
    "musical-nights",
];

/// Oracle, Prism and ranker, each a process.
struct Cluster {
    oracle: Service,
    prism: Service,
    ranker: Service,
}

impl Cluster {
    fn start(knowledge: &[String]) -> Self {
        let (oracle, prism) = (Service::start("oracle", &[]), Service::start("prism", &[]));
        let mut settings = vec![
            format!("ranker.oracle.target={}", oracle.address("oracle")),
            format!("ranker.prism.target={}", prism.address("prism")),
        ];
        settings.extend_from_slice(knowledge);
        let ranker = Service::start("ranker", &settings);
        Self {
            oracle,
            prism,
            ranker,
        }
    }

    async fn rungs(&self, user: &str) -> Vec<Rung> {
        let answer = recommend(self.ranker.address("ranker"), user, 4)
            .await
            .expect("ranking never fails");
        assert_eq!(answer.titles.len(), 4);
        answer.explanations.iter().map(|e| e.grounding.rung).collect()
    }
}

/// Rungs that a Prism's own text with knowledge may have; the gate may send single items to the template.
fn written_with(knowledge: Rung, rungs: &[Rung]) -> bool {
    rungs.contains(&knowledge)
        && rungs
            .iter()
            .all(|r| [knowledge, Rung::Template, Rung::HistoryOnly].contains(r))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_stations_cost_rungs_and_never_the_slate() {
    let mut cluster = Cluster::start(&[]);
    let fresh = cluster.rungs(USERS[0]).await;
    assert!(written_with(Rung::Fresh, &fresh), "{fresh:?}");
    let cached = cluster.rungs(USERS[0]).await;
    assert!(written_with(Rung::Cached, &cached), "{cached:?}");

    cluster.oracle.kill();
    let remembered = cluster.rungs(USERS[0]).await;
    assert!(
        written_with(Rung::Cached, &remembered),
        "a hit survives the Oracle: {remembered:?}"
    );
    let alone = cluster.rungs(USERS[1]).await;
    assert!(
        alone
            .iter()
            .all(|r| [Rung::HistoryOnly, Rung::Template].contains(r)),
        "{alone:?}"
    );
    assert!(
        alone.contains(&Rung::HistoryOnly),
        "the Prism still writes: {alone:?}"
    );

    cluster.prism.kill();
    let by_rule = cluster.rungs(USERS[2]).await;
    assert_eq!(by_rule, [Rung::Template; 4]);
    let answer = recommend(cluster.ranker.address("ranker"), USERS[2], 4)
        .await
        .expect("ranking never fails");
    for explanation in &answer.explanations {
        assert!(!explanation.text.is_empty());
        assert!(
            explanation.grounding.descents.iter().any(|d| d.contains("Prism")),
            "{:?}",
            explanation.grounding
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_redis_costs_memory_and_nothing_else() {
    let Some(mut redis) = Redis::start() else { return };
    let cluster = Cluster::start(&[
        "ranker.knowledge.store=redis".to_owned(),
        format!("ranker.knowledge.redis.url={}", redis.url),
        "ranker.knowledge.secret=sixteen bytes or more".to_owned(),
        // Without the first level in the process, so that it is Redis that remembers.
        "ranker.knowledge.l1_ttl=0s".to_owned(),
    ]);
    assert!(written_with(Rung::Fresh, &cluster.rungs(USERS[0]).await));
    // Writing to Redis happens behind the answer's back.
    let mut remembered = false;
    for _ in 0..50 {
        remembered = written_with(Rung::Cached, &cluster.rungs(USERS[0]).await);
        if remembered {
            break;
        }
    }
    assert!(remembered, "Redis remembers");
    redis.kill();
    let rungs = cluster.rungs(USERS[3]).await;
    assert!(
        written_with(Rung::Fresh, &rungs),
        "without Redis the Oracle is asked: {rungs:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_never_there_does_not_keep_the_ranker_from_serving() {
    let cluster = Cluster::start(&[
        "ranker.knowledge.store=redis".to_owned(),
        "ranker.knowledge.redis.url=redis://127.0.0.1:1".to_owned(),
        "ranker.knowledge.secret=sixteen bytes or more".to_owned(),
    ]);
    assert!(written_with(Rung::Fresh, &cluster.rungs(USERS[0]).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_is_not_found_and_the_field_is_named() {
    let all = Service::start("all", &[]);
    let error = recommend(all.address("ranker"), "nobody", 3)
        .await
        .expect_err("unknown");
    assert_eq!(
        error,
        Error::NotFound {
            resource: Resource::User,
            field: "rank.subject.user_id".to_owned()
        }
    );
}
