//! Streams recommendations with their explanations: `cargo run -p refract-client --example recommend HOST:PORT USER`.

use futures_util::StreamExt as _;
use refract_client::{Event, Options, Refract, for_user};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (target, user) = (words.next().expect("HOST:PORT"), words.next().expect("USER"));
    let refract = Refract::connect(Options::at(target.parse()?))?;
    let mut events = refract.stream_recommend(&for_user(&user, 3)).await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Slate(slate) => slate
                .items
                .iter()
                .for_each(|place| println!("{}", place.item.title)),
            Event::Explained(it) => println!("{}. {}", it.position, it.explanation.text),
            Event::Delta { .. } | Event::Summary(_) => {}
        }
    }
    Ok(())
}
