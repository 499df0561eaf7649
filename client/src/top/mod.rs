//! `edgeprof top`: the cluster, live, on a terminal.

mod screen;
mod state;
mod view;

use std::{
    io::{IsTerminal, stdin, stdout},
    time::{Duration, Instant},
};

use edgeprof_client::Client;
use tokio::{sync::mpsc, time::interval};

use crate::{
    args::Global,
    exit::{Exit, Failure},
};
use screen::Screen;
use state::{Key, Picture, Top};

/// Jobs that are looked at: those that are open are among the newest.
const JOBS: u32 = 500;

/// Somebody looks on: that the coordinator is gone is to be seen at once.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn run(global: &Global, every: Duration) -> Result<Exit, Failure> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::usage("`edgeprof top` draws on a terminal, and this is none")
            .hint("`edgeprof boards`, `workers` and `jobs` say the same once, also with -o json"));
    }
    let client = global.connect().await?.with_patience(PATIENCE);
    let mut top = Top::new(client.address().to_owned());
    top.see(picture(&client).await?, Instant::now());
    let mut screen = Screen::enter()?;
    let (mut keys, mut ticks) = (screen::keys(), interval(every));
    let (pictures, mut seen) = mpsc::channel(1);
    // Asked beside, so that a slow answer holds no key up; it ends when nobody takes its pictures any more.
    tokio::spawn(async move {
        loop {
            ticks.tick().await;
            if pictures.send(picture(&client).await).await.is_err() {
                return;
            }
        }
    });
    loop {
        screen.draw(&top)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Quit) | None => return Ok(Exit::Ok),
                Some(key) => top.press(key),
            },
            picture = seen.recv() => match picture {
                Some(Ok(picture)) => top.see(picture, Instant::now()),
                Some(Err(failure)) => top.trouble(failure.message().to_owned(), Instant::now()),
                None => return Ok(Exit::Ok),
            },
        }
    }
}

async fn picture(client: &Client) -> Result<Picture, Failure> {
    let (workers, boards) = (client.workers().await?, client.boards(&[]).await?);
    Ok(Picture { workers, boards, jobs: client.jobs(JOBS).await? })
}
