//! Two rankers, one store, one Oracle, as real processes: what one has asked the other does not, and a user who is erased
//! is erased for both.

use std::time::Duration;

use refract_client::{Options, Refract, for_user};
use refract_domain::{Rung, UserId};
use refract_tests::{Redis, Service, recommend};

const USER: &str = "noir-and-heists";
const ITEMS: usize = 4;

/// Reads one counter of a role's admin port: the sum over the series that begin like this.
fn counted(service: &Service, role: &str, series: &str) -> f64 {
    let text = service.admin(role, "/metrics", "text/plain");
    let lines = text.lines().filter(|line| line.starts_with(series));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

fn consultations(oracle: &Service) -> f64 {
    counted(
        oracle,
        "oracle",
        "refract_wire_calls_total{service=\"refract.oracle.v1.OracleService\",method=\"Consult\"",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rankers_ask_the_oracle_once_and_an_erased_user_is_asked_about_again() {
    let Some(redis) = Redis::start() else { return };
    let oracle = Service::start("oracle", &[]);
    let prism = Service::start("prism", &[]);
    let settings = [
        format!("ranker.oracle.target={}", oracle.address("oracle")),
        format!("ranker.prism.target={}", prism.address("prism")),
        "ranker.knowledge.store=redis".to_owned(),
        format!("ranker.knowledge.redis.url={}", redis.url),
        "ranker.knowledge.redis.get_timeout=2s".to_owned(),
        "ranker.knowledge.redis.put_timeout=2s".to_owned(),
        "ranker.knowledge.secret=sixteen bytes or more".to_owned(),
        "ranker.knowledge.lease_wait=30s".to_owned(),
        // The second ranker's own first level must not hide what the store holds.
        "ranker.knowledge.l1_ttl=0s".to_owned(),
    ];
    let rankers = [(); 2].map(|()| Service::start("ranker", &settings));
    for ranker in &rankers {
        // Whoever has never heard of the Oracle has no name to agree on.
        recommend(ranker.address("ranker"), "space-opera", 1)
            .await
            .unwrap();
    }
    let before = consultations(&oracle);
    let both = rankers
        .iter()
        .map(|ranker| recommend(ranker.address("ranker"), USER, ITEMS));
    let answers = futures_util::future::try_join_all(both).await.unwrap();
    assert_eq!(answers[0].titles, answers[1].titles);
    assert_eq!(
        consultations(&oracle) - before,
        ITEMS as f64,
        "one question for each pair"
    );
    let rungs: Vec<Rung> = answers
        .iter()
        .flat_map(|answer| answer.explanations.iter().map(|e| e.grounding.rung))
        .collect();
    let fresh = rungs.iter().filter(|rung| **rung == Rung::Fresh).count();
    assert!(fresh <= ITEMS, "{rungs:?}");

    let options = |ranker: &Service| Options::at(ranker.address("ranker").to_string().parse().unwrap());
    let [one, two] = [0, 1].map(|n| Refract::connect(options(&rankers[n])).unwrap());
    let user = UserId::new(USER);
    assert_eq!(one.erase_user(&user).await.unwrap(), ITEMS as u64);
    assert_eq!(one.erase_user(&user).await.unwrap(), 0);
    let before = consultations(&oracle);
    let (_, explained, _) = two.recommend(&for_user(USER, ITEMS)).await.unwrap();
    assert!(
        explained
            .iter()
            .all(|e| e.explanation.grounding.rung != Rung::Cached)
    );
    assert_eq!(consultations(&oracle) - before, ITEMS as f64);
    let elsewhere = two.erase_user(&UserId::new("nobody")).await.unwrap();
    assert_eq!(elsewhere, 0);
    // What was asked since is remembered anew, and goes as what was before it; writes may still be on their way.
    let mut erased = 0;
    for _ in 0..50 {
        erased += two.erase_user(&user).await.unwrap();
        if erased == ITEMS as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=ITEMS as u64).contains(&erased), "{erased}");
    assert_eq!(one.erase_user(&user).await.unwrap(), 0);
}
