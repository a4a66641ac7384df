//! The front door itself, called without a network, under paused time.

use refract_domain::{Attributes, Timestamp};
use refract_wire::proto::r#type::v1 as types;
use tonic::Code;

use super::*;
use crate::config::River as Config;
use crate::dataset::{Manifest, Parts, RawInteraction};
use crate::scripted::{Script, river_with, stations};

const BUDGET: Duration = Duration::from_secs(5);

/// One user, who liked Heat.
fn dataset() -> Arc<Dataset> {
    let attributes = [("genre", "crime"), ("director", "Michael Mann")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
    let parts = Parts {
        manifest: Manifest {
            name: "one".into(),
            ..Manifest::default()
        },
        items: vec![Item {
            id: ItemId::new("Heat"),
            title: "Heat".into(),
            attributes: Attributes::from(attributes),
            description: String::new(),
        }],
        interactions: vec![RawInteraction {
            user: UserId::new("ann"),
            item: ItemId::new("Heat"),
            rating: None,
            at: Timestamp(1),
        }],
        users: Vec::new(),
    };
    Arc::new(Dataset::assemble(parts).expect("a sound data set"))
}

/// The Prism hangs.
fn door(config: Config) -> FrontDoor {
    FrontDoor {
        river: river_with(&stations(Script::Answers, Script::Hangs), config),
        dataset: dataset(),
        memory: None,
        info: ServerInfo::new("ranker", &refract_wire::Limits::default()),
        config: server::Config {
            deadline_cap: Duration::from_secs(20),
            ..server::Config::default()
        },
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(BUDGET);
    request
}

fn rank(limit: u32) -> proto::RankRequest {
    proto::RankRequest {
        subject: Some(proto::Subject {
            kind: Some(proto::subject::Kind::UserId("ann".into())),
            ..proto::Subject::default()
        }),
        limit,
        ..proto::RankRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_slate_comes_in_time_though_there_is_none_left_for_its_texts() {
    // As if the templates of those who waited had taken all the time there is for templates.
    let config = Config {
        send_margin: Config::default().answer_margin,
        ..Config::default()
    };
    let (door, began) = (door(config), now());
    let answer = door
        .recommend(request(proto::RecommendRequest {
            rank: Some(rank(100)),
            explain: None,
        }))
        .await
        .expect("a slate")
        .into_inner();
    assert!(now() - began < BUDGET);
    assert_eq!(answer.slate.expect("a slate").items.len(), 100);
    let groundings = answer
        .explanations
        .iter()
        .map(|e| e.grounding.clone().expect("one each"));
    let reasons: Vec<_> = groundings.map(|g| (g.rung(), g.none_reason())).collect();
    assert_eq!(reasons, [(types::Rung::None, types::NoneReason::Deadline); 100]);
    assert_eq!(door.river.rooms.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_gives_its_room_back_at_the_deadline() {
    let door = door(Config::default());
    let unread = door
        .stream_recommend(request(proto::StreamRecommendRequest {
            rank: Some(rank(3)),
            explain: None,
        }))
        .await
        .expect("a stream");
    assert_eq!(door.river.rooms.in_use(), 3);
    tokio::time::sleep(BUDGET).await;
    assert_eq!(door.river.rooms.in_use(), 0);
    drop(unread);
}

#[tokio::test(start_paused = true)]
async fn a_slate_that_is_only_ranked_needs_room_and_not_that_of_explanations() {
    let door = door(Config {
        items_by_rule_max: 1,
        ..Config::default()
    });
    let explained = door.river.rooms.admit(1_000).expect("room");
    assert!(door.rank(request(rank(3))).await.is_ok());
    let ranked = door.river.rooms.admit_to_rank().expect("room");
    let refused = door.rank(request(rank(3))).await.expect_err("none left");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop((explained, ranked));
    assert!(door.rank(request(rank(3))).await.is_ok());
    assert_eq!(door.river.rooms.in_use(), 0);
}
