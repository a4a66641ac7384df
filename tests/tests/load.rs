//! The load generator against a real cluster: every request is accounted for, and its times are in the order of the river.

use std::time::Duration;

use refract_client::{Options, Refract};
use refract_loadtest::drive::{self, Load};
use refract_loadtest::schedule::{self, Arrivals};
use refract_loadtest::summary::{Objectives, Summary};
use refract_tests::Service;

#[tokio::test(flavor = "multi_thread")]
async fn every_intended_request_ends_in_one_outcome_with_times_in_order() {
    let all = Service::start("all", &[]);
    let length = Duration::from_secs(3);
    let starts = schedule::starts(Arrivals::Poisson, 3.0, length, 1);
    let users = ["noir-and-heists", "nobody-has-this-id"].map(str::to_owned);
    let load = Load {
        users: (0..starts.len())
            .map(|n| users[usize::from(n % 3 == 2)].clone())
            .collect(),
        starts: starts.clone(),
        limit: 2,
        in_flight_max: 1_000,
    };
    let mut options = Options::at(all.address("ranker").into());
    options.deadline = Duration::from_secs(60);
    let doors = [Refract::connect(options).unwrap()];
    let outcomes = drive::run(&doors, load).await;

    assert_eq!(outcomes.len(), starts.len());
    for (n, outcome) in outcomes.iter().enumerate() {
        if n % 3 == 2 {
            assert_eq!(outcome.status, "NOT_FOUND");
            continue;
        }
        assert_eq!(outcome.status, "OK");
        assert_eq!(outcome.items.len(), 2);
        let (slate, text, end) = (
            outcome.slate.unwrap(),
            outcome.first_text.unwrap(),
            outcome.end.unwrap(),
        );
        assert!(
            outcome.delay <= slate && slate <= text && text <= end,
            "{outcome:?}"
        );
        assert!(outcome.items.iter().all(|item| item.complete <= end));
        // The Prism's work is part of the answer's time, and not all of it.
        let overhead = outcome.overhead.unwrap();
        assert!(!overhead.is_zero() && overhead < end, "{outcome:?}");
        assert!(
            outcome
                .items
                .iter()
                .all(|item| item.found.is_some() == (item.rung == "CACHED"))
        );
    }
    let summary = Summary::of(&outcomes, length, &Objectives::default());
    assert_eq!(summary.status.values().sum::<usize>(), starts.len());
}
