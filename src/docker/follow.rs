//! Keeps a picture fresh: subscribe, look, look again after what happens.
//!
//! What takes something away is believed at once, what adds something takes a look. When Docker does not answer there
//! is no picture: a daemon that comes back starts containers before it answers. Must not know what a picture is for.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::DockerConfig;
use super::api::{Api, Events};
use super::desk::{Asker, Attendant, desk};
use super::error::DockerError;
use super::look::{Looked, Looker};
use super::notice::Notice;
use super::picture::Picture;

/// The present picture, for those who ask who is where.
#[derive(Debug, Clone)]
pub struct View {
    pictures: watch::Receiver<Option<Arc<Picture>>>,
    asker: Asker,
}

impl View {
    /// Returns the present picture; `None`: Docker does not answer, and who has which address is not known.
    pub fn picture(&self) -> Option<Arc<Picture>> {
        self.pictures.borrow().clone()
    }

    /// Returns where each new picture is told, the present one included.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Picture>>> {
        self.pictures.clone()
    }

    /// Waits for the end of a look that begins after this call, at most 2 seconds: for a client that the picture does
    /// not show. There are at most 10 looks a second however many ask, and beyond 64 that wait the others make do with
    /// what is known. Docker shows a container some milliseconds after its first process began: who is in a hurry may
    /// have to ask again, but only when this says that there was a look: else it returned at once, and asking again
    /// would go round and round without waiting.
    pub async fn fresh(&self) -> bool {
        self.asker.fresh().await
    }
}

/// Follows a daemon as long as [`Follower::run`] runs.
#[derive(Debug)]
pub struct Follower {
    config: DockerConfig,
    looker: Looker,
    pictures: watch::Sender<Option<Arc<Picture>>>,
    attendant: Attendant,
    /// When the last event came.
    stirred: Option<Instant>,
    /// Whether its silence has been told.
    is_told: bool,
}

impl Follower {
    pub(super) fn new(config: DockerConfig) -> (Self, View) {
        let (asker, attendant) = desk();
        let (sender, receiver) = watch::channel(None);
        let looker = Looker::default();
        let follower = Self { config, looker, pictures: sender, attendant, stirred: None, is_told: false };
        (follower, View { pictures: receiver, asker })
    }

    /// Keeps the picture fresh until this is cancelled. Afterwards, and when this is dropped, there is none.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut pause = MIN_PAUSE;
        loop {
            let Some(ended) = cancel.run_until_cancelled(self.session()).await else { return };
            let Err(error) = ended;
            // It answered, or was told to be silent already.
            if self.pictures.send_replace(None).is_some() {
                (pause, self.is_told) = (MIN_PAUSE, false);
            }
            self.attendant.end(self.attendant.begin());
            if !self.is_told {
                tracing::warn!(%error, "Docker does not answer: no container is known");
                self.is_told = true;
            }
            if cancel.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// One connection's life.
    async fn session(&mut self) -> Result<Infallible, DockerError> {
        let api = Api::connect(&self.config.socket).await?;
        let mut events = api.events().await?;
        loop {
            let number = self.attendant.begin();
            let began = Instant::now();
            let is_due = self.look(&api, &mut events).await?;
            self.attendant.end(number);
            self.rest(&mut events, began, is_due).await?;
        }
    }

    /// Looks while events come; returns whether to look again as soon as may be.
    async fn look(&mut self, api: &Api, events: &mut Events) -> Result<bool, DockerError> {
        // What was taken away since the look began: the daemon may have answered before that.
        let mut taken = HashSet::new();
        let mut is_due = false;
        let Looked { mut picture, is_settled } = {
            let mut look = std::pin::pin!(timeout(LOOK, self.looker.look(api, &self.config.networks)));
            loop {
                tokio::select! {
                    biased;
                    notice = events.next() => {
                        let notice = notice?;
                        take_away(&self.pictures, &notice);
                        (is_due, self.stirred) = (true, Some(Instant::now()));
                        taken.insert(notice);
                    }
                    looked = &mut look => {
                        let late = |_| DockerError::Timeout { action: "show its containers", after: LOOK };
                        break looked.map_err(late)??;
                    }
                }
            }
        };
        for notice in &taken {
            self.looker.forget(notice);
            picture.take_away(notice);
        }
        if self.is_told {
            tracing::info!("Docker answers again");
            self.is_told = false;
        }
        publish(&self.pictures, picture);
        Ok(is_due || !is_settled)
    }

    /// Waits until the next look is due: soon after an event or a wish, else after a while.
    async fn rest(
        &mut self,
        events: &mut Events,
        began: Instant,
        mut is_due: bool,
    ) -> Result<(), DockerError> {
        // However often somebody wishes: most of the time the daemon has rest.
        let between = BETWEEN.max(began.elapsed() * 3);
        // The daemon tells some things before its lists show them (that a container was connected): look after twice
        // the time, until it had time enough.
        let age = self.stirred.map(|at| began.saturating_duration_since(at)).filter(|age| *age < SETTLING);
        let unasked = age.map_or(IDLE, |age| between.max(age));
        loop {
            let next = began + if is_due { between } else { unasked };
            tokio::select! {
                biased;
                notice = events.next() => {
                    let notice = notice?;
                    take_away(&self.pictures, &notice);
                    self.looker.forget(&notice);
                    (is_due, self.stirred) = (true, Some(Instant::now()));
                }
                () = self.attendant.wanted() => is_due = true,
                () = sleep_until(next) => return Ok(()),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Nobody keeps it fresh from here on.
        self.pictures.send_replace(None);
    }
}

fn take_away(pictures: &watch::Sender<Option<Arc<Picture>>>, notice: &Notice) {
    pictures.send_if_modified(|present| {
        present.as_mut().is_some_and(|picture| Arc::make_mut(picture).take_away(notice))
    });
}

fn publish(pictures: &watch::Sender<Option<Arc<Picture>>>, picture: Picture) {
    pictures.send_if_modified(|present| {
        let is_new = present.as_deref() != Some(&picture);
        if is_new {
            *present = Some(Arc::new(picture));
        }
        is_new
    });
}

/// From the beginning of one look to the next.
const BETWEEN: Duration = Duration::from_millis(100);
/// From one look to the next when nothing happens: how long a lost event, or a stream of events that hangs, can mislead.
const IDLE: Duration = Duration::from_secs(10);
/// How long after an event the lists may not show yet what it told; seen with Docker 20.10: a few milliseconds.
const SETTLING: Duration = Duration::from_secs(1);
/// For a whole look.
const LOOK: Duration = Duration::from_secs(10);
/// Before the first attempt after Docker stopped answering.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Before the later ones.
const MAX_PAUSE: Duration = Duration::from_secs(1);
